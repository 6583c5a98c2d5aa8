"""`python -m cellvigil`."""

from cellvigil.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
