"""Libraries of the extra `index`, imported where an alignment needs them; a daemon that aligns nothing has none."""

from __future__ import annotations

import importlib
from typing import Any

from cellvigil.errors import UsageError


def library(module: str, package: str, what_for: str) -> Any:
    """The module. Raises UsageError where it is not installed, saying what to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(
            f"{what_for} needs {package}, which is not installed", hint="pip install 'cellvigil[index]'"
        ) from error
