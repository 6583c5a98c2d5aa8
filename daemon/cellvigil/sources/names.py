"""Names by a configured regular expression with named groups, for formats whose names have no fixed form.

Without a pattern every file is a time point of its own of well A1, field 1: nothing is guessed from digits, since a
wrong guess would let two images claim one slot.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cellvigil import config
from cellvigil.data import Sighting
from cellvigil.errors import BadFile
from cellvigil.sources.folders import is_noise, place_of, well_name

WELL = "A1"
FIELD = "1"
_LONGEST_NUMBER = 18  # digits; a longer one is a date or a serial, kept as text


@dataclass(frozen=True, slots=True)
class NameRule:
    """How a source's relative paths are read."""

    source: config.Source
    suffixes: tuple[str, ...]

    def sight(self, path: str) -> Sighting | None:
        """What `path` says; None for what is no image. Raises BadFile("bad_name") if the pattern does not fit."""
        if is_noise(path) or not path.lower().endswith(self.suffixes):
            return None
        groups, rest = self._groups(path)
        well = self._well(path, groups.get("well"))
        place = place_of(path, self.source, well=well if "well" in groups else "")
        number = _number(groups.get("time"))
        return Sighting(
            experiment=groups.get("experiment") or place.experiment,
            plate=groups.get("plate") or place.plate,
            well=well,
            field=_plain_number(groups.get("field") or FIELD),
            number=number,
            folder=place.folder if number >= 0 else rest,
            channel=groups.get("channel", ""),
            z=self._slice(path, groups.get("z")),
            derived="",
        )

    def _groups(self, path: str) -> tuple[dict[str, str], str]:
        """The groups that took part in the match, and the path without what tells images of one time point apart."""
        if not self.source.pattern:
            return {}, path
        match = re.search(self.source.pattern, path)
        if match is None:
            raise BadFile("bad_name", "the name does not fit the source's pattern", where=path, hint="see `pattern`")
        groups = {name: text for name, text in match.groupdict().items() if text is not None}
        inside = [match.span(name) for name in ("well", "field", "channel", "z") if name in groups]
        kept = (char for i, char in enumerate(path) if not any(start <= i < end for start, end in inside))
        return groups, "".join(kept)

    @staticmethod
    def _well(path: str, text: str | None) -> str:
        if text is None:
            return WELL
        try:
            return well_name(text)
        except ValueError as error:
            raise BadFile("bad_name", str(error), where=path, hint="mend the group `well` of `pattern`") from None

    @staticmethod
    def _slice(path: str, text: str | None) -> int | None:
        if text is None:
            return None
        if not re.fullmatch(r"\d{1,9}", text, re.ASCII):
            raise BadFile(
                "bad_name", f"{text!r} is no slice number", where=path, hint="mend the group `z` of `pattern`"
            )
        return int(text)


def _number(text: str | None) -> int:
    """The time number; -1 where there is none, or where it is a date or a serial."""
    is_number = text is not None and len(text) <= _LONGEST_NUMBER and re.fullmatch(r"\d+", text, re.ASCII)
    return int(text) if text is not None and is_number else -1


def _plain_number(text: str) -> str:
    """The same text for 007 and 7: they are one field."""
    return str(int(text)) if re.fullmatch(r"\d{1,9}", text, re.ASCII) else text
