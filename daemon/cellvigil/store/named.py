"""Which chunks a plate's journal names: per field, array and slot. Pure; made while the journal is folded at opening.

The plate itself remembers only which slots a field committed; opening also asks for each chunk of each.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cellvigil.journal import Line
from cellvigil.store.plate import FEATURES_TABLE, Plate

YOUNG = timedelta(minutes=2)
"""The system writes what it holds back within 30 s; a reduced level older than this at the last line is on the disk."""

LEVELS = ("0", "1", "labels/cells/0", "labels/cells/1")
"""The arrays in which every frame has a chunk."""

_MOST_YOUNG = 20_000  # frames; more are not committed in `YOUNG`


@dataclass(frozen=True, slots=True)
class Place:
    """One slot of one field."""

    path: str  # the field's folder in the plate: "A/1/0"
    slot: int


@dataclass(slots=True, eq=False)
class Named:
    """What the lines of one journal name. `note` takes them, the rest asks when all are told."""

    _slots: dict[str, dict[tuple[str, ...], list[int]]] = field(default_factory=dict)  # field -> tables -> slots
    _called: dict[str, dict[str, set[int]]] = field(default_factory=dict)  # field -> table -> slots of later calls
    _lost: list[tuple[str, str, int]] = field(default_factory=list)  # well, field name, slot
    _last: deque[tuple[str, str, int, bool]] = field(default_factory=lambda: deque(maxlen=_MOST_YOUNG))

    def note(self, line: Line) -> None:
        """Take one good line."""
        kind = line.get("kind")
        if kind == "frame":
            tables = (FEATURES_TABLE, *line["tables"]) if line["n_cells"] else ()
            self._slots.setdefault(line["path"], {}).setdefault(tables, []).append(line["t"])
            self._last.append((line["committed_at"], line["path"], line["t"], False))
            for slots in self._called.get(line["path"], {}).values():
                slots.discard(line["t"])  # of a frame whose own line went bad, and that was done again
        elif kind == "calls":
            self._called.setdefault(line["path"], {}).setdefault(line["table"], set()).add(line["t"])
        elif kind == "attached":
            self._last.append((line["committed_at"], line["path"], line["t"], True))
        elif kind == "lost":
            self._lost.append((line["key"][3], line["key"][4], line["t"]))

    def doubled(self) -> int:
        """How many frame lines name a field's slot that another names too: no crash does that."""
        slots = [[slot for some in groups.values() for slot in some] for groups in self._slots.values()]
        return sum(len(some) - len(set(some)) for some in slots)

    def lost(self, plate: Plate) -> set[Place]:
        """Places whose chunks are known to be damaged, and may be away."""
        known = ((plate.fields.get((well, name)), slot) for well, name, slot in self._lost)
        return {Place(one.path, slot) for one, slot in known if one is not None}

    def arrays(self, path: str) -> dict[str, set[int]]:
        """The slots of which a field has a chunk, by array, dropped ones too."""
        groups = self._slots.get(path, {})
        every = {slot for some in groups.values() for slot in some}
        found = dict.fromkeys(LEVELS, every)
        for tables, slots in groups.items():
            for table in tables:
                found[table] = found.get(table, set()).union(slots)
        with_cells = every.difference(groups.get((), ()))
        for table, called in self._called.get(path, {}).items():
            found[table] = found.get(table, set()) | (called & with_cells)
        return found

    def young(self) -> dict[Place, bool]:
        """Places whose reduced levels the system may not have written back at a power cut.

        True: a channel came late, so that an older level in its place would be whole too.
        """
        if not self._last:
            return {}
        ended = datetime.fromisoformat(self._last[-1][0])
        found: dict[Place, bool] = {}
        for at, path, slot, attached in self._last:
            if ended - datetime.fromisoformat(at) <= YOUNG:
                place = Place(path, slot)
                found[place] = found.get(place, False) or attached
        return found
