"""Cell states: the device's shift alone, carried to every class (`methods.md`, "Transport"); `align` is the entry."""
