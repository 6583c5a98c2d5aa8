"""Bad files of every kind, made by code: broken, hostile, contradictory, or only odd. `CASES` holds them all."""

from __future__ import annotations

import bad_archives  # noqa: F401 - each adds its cases
import bad_metadata  # noqa: F401
import bad_pixels  # noqa: F401
import bad_places  # noqa: F401
import bad_structure  # noqa: F401
from bad_cases import CASES, READS, UNSEEN, Bad

__all__ = ["CASES", "READS", "UNSEEN", "Bad"]
