"""`python -m cellvigil_export`: the command `cellvigil-export`."""

import sys

from cellvigil_export.cli import main

sys.exit(main())
