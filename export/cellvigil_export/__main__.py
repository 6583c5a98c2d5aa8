"""`python -m cellvigil_export`: the command `cellvigil-export`."""

import sys

from cellvigil_export.cli import main

if __name__ == "__main__":
    sys.exit(main())
