"""What the licences that a bundle's manifest names allow, by their SPDX names. Values only.

Of every model two are asked: that of the authors' release, and that of the page or package its weights came from.
Only names that are known to allow commercial use do so: "NOASSERTION", a name of one's own and a manifest that is
silent do not. Nobody here is a lawyer: `encoder.licence_use` keeps a machine from what is plainly not allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cellvigil.errors import BundleError

COMMERCIAL = (
    *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "ISC", "MIT", "MIT-0", "Unlicense", "Zlib"),
    *("CC-BY-3.0", "CC-BY-4.0", "CC0-1.0", "CDLA-Permissive-1.0", "CDLA-Permissive-2.0"),
)
"""SPDX names of licences that let anybody use a model commercially, as long as its authors are named."""

_ALLOWED = frozenset(name.casefold() for name in COMMERCIAL)  # SPDX names are the same in any case
_NOBODY_SAYS = "NOASSERTION"
_ASKED = ("upstream", "weights")


def licences_of(manifest: Mapping[str, Any]) -> dict[str, str]:
    """SPDX name of "upstream" and "weights", as a bundle's manifest says; "NOASSERTION" where it does not."""
    told = manifest.get("licences")
    told = told if isinstance(told, Mapping) else {}
    return {which: str(told.get(which) or _NOBODY_SAYS) for which in _ASKED}


def not_commercial(manifest: Mapping[str, Any]) -> str:
    """Why a bundle may not be used commercially; "" where it may."""
    return " and ".join(
        f"the licence {'of its weights' if which == 'weights' else 'upstream'} is "
        + ("not known" if name == _NOBODY_SAYS else f"{name}, which is not one of those that allow it")
        for which, name in licences_of(manifest).items()
        if name.casefold() not in _ALLOWED
    )


def told_licences(manifest: Mapping[str, Any]) -> str:
    """A bundle's licences in a few words, for a person."""
    names = ", ".join(f"{which} {name}" for which, name in licences_of(manifest).items())
    return f"licences: {names}" + (" (no commercial use)" if not_commercial(manifest) else "")


def check_use(name: str, manifest: Mapping[str, Any], use: str, *, where: Path) -> None:
    """Raises BundleError for a bundle, called `name` ("encoder x"), that may not be used so: `encoder.licence_use`."""
    if use == "commercial" and (why := not_commercial(manifest)):
        hint = "take one whose licences allow it, see docs/indexes.md; with a permission of your own, or for research, "
        raise BundleError(
            f"{name} must not be used commercially: {why}", where=where, hint=hint + "set encoder.licence_use: research"
        )
