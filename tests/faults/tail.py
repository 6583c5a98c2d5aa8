"""Follows a store's journals while somebody writes them: only what is whole and sealed, each line once."""

from __future__ import annotations

from pathlib import Path

from cellvigil.journal import Line, parse
from cellvigil.store.recover import JOURNAL


class Tail:
    """Reads what was added since the last look."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._read: dict[Path, int] = {}
        self.frames: dict[tuple[object, ...], Line] = {}  # by key and revision: every commit that was ever seen
        self.doubled: list[tuple[object, ...]] = []  # committed a second time

    def look(self) -> list[Line]:
        """The frames committed since, as their journal lines, each with its plate's folder under "plate_folder"."""
        fresh = []
        for path in self._store.glob(f"[!.]*/[!.]*/[!.]*.zarr/{JOURNAL}"):
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            for row in whole.split(b"\n")[:-1]:
                line = parse(row)
                if line is None:
                    break  # being cut off or mended just now: read again next time
                self._read[path] = self._read.get(path, 0) + len(row) + 1
                if line.get("kind") == "frame":
                    line["plate_folder"] = str(path.parent)
                    fresh.append(line)
        for line in fresh:
            mark = (*line["key"], line["revision"])
            if mark in self.frames:
                self.doubled.append(mark)
            self.frames[mark] = {name: line[name] for name in ("t", "path", "n_cells", "files", "plate_folder")}
        return fresh

    @property
    def committed(self) -> int:
        """Frames committed so far, revisions apart."""
        return len(self.frames)
