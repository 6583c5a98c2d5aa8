"""One module a command of `cellvigil-index`: ABOUT, EXAMPLES, `add_arguments` and `run`."""
