import sys

from cellvigil_indexes.cli import main

sys.exit(main())
