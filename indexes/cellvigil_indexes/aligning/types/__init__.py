"""Cell types: class shares, common frame, transport and drawn references: the shipped fit; `fitting` is the entry."""
