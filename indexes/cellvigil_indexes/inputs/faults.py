"""What is wrong with an input, counted and named, so that a person hears all of it at once. Opens nothing."""

from __future__ import annotations

from pathlib import Path

from cellvigil.errors import UsageError

_NAMED = 3  # of each kind


class Faults:
    """What is wrong with one input, by kind, in the order in which kinds were met."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}
        self._noted: dict[str, list[str]] = {}

    def add(self, kind: str, example: object) -> None:
        """Note one thing: `kind` is in the plural ("images that are not there"), `example` names it."""
        self._found.setdefault(kind, []).append(str(example))

    def note(self, kind: str, example: object) -> None:
        """Note something that is no fault, but is to be told."""
        self._noted.setdefault(kind, []).append(str(example))

    @property
    def counts(self) -> dict[str, int]:
        """How many of each kind."""
        return {kind: len(examples) for kind, examples in self._found.items()}

    def told(self) -> list[str]:
        """One text a kind: how many, and the first few by name."""
        return _told(self._found)

    def settle(self, what: str, *, where: Path, skip_bad: bool) -> list[str]:
        """What was left out, if the user said `skip_bad`, and what was noted: one text a kind.

        Raises UsageError that tells all of it if not.
        """
        told = self.told()
        if told and not skip_bad:
            hint = "mend it, or leave these out with --skip-bad"
            raise UsageError(f"{what} has faults: {'; '.join(told)}", where=where, hint=hint)
        return [*(f"left out: {text}" for text in told), *_told(self._noted)]


def one_spelling(names: list[str], faults: Faults, kind: str) -> dict[str, str]:
    """Every name by the spelling that comes first; names that differ in case only are noted as `kind`."""
    first: dict[str, str] = {}
    for name in names:
        known = first.setdefault(name.casefold(), name)
        if known != name:
            faults.add(kind, f"{known!r} and {name!r}")
    return {name: first[name.casefold()] for name in names}


def _told(found: dict[str, list[str]]) -> list[str]:
    return [f"{kind}: {len(names)} ({_few(names)})" for kind, names in found.items()]


def _few(names: list[str]) -> str:
    more = ", ..." if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
