"""`python3 -m cellvigil.install`: from a source tree or a wheel, before anything is installed."""

from __future__ import annotations

import argparse
import sys

from cellvigil.errors import CellvigilError
from cellvigil.install.command import add_options, install

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="cellvigil.install", description="Install Cellvigil as a service.")
    add_options(parser)
    try:
        sys.exit(install(parser.parse_args()))
    except CellvigilError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
