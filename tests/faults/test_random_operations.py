"""Whatever is done to a store in whatever order, its table, its ledger and its slots agree to the cell.

Commits, groups, revisions, late channels, other calls, retention, a flipped bit with a repair, a bad journal line, a
clock that jumps, openings anew: sixty steps a seed, and the accounts after each.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from cellvigil import table
from cellvigil.data import FileRef, FrameKey
from cellvigil.ledger import TIERS
from cellvigil.store.dropping import drop
from cellvigil.store.fit import SourcePlan
from cellvigil.store.reader import read_ledger
from cellvigil.store.recover import plate_folders
from cellvigil.store.repair import repair
from cellvigil.store.retention import Drop
from cellvigil.store.writer import Filing, open_store
from store_records import CLASSES, GROUPS, SERIES, START, calls_of, key, record

PLANS = {"scope": SourcePlan(("channel-0", "channel-1"))}
SHAPE = (1, 12, 18)
STEPS = 60


class Drill:
    """A store, and the operations that somebody may do to it."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.random, self.now, self.late = root, random.Random(seed), START, 0
        self.open()

    def open(self) -> None:
        self.store = open_store(self.root, now=lambda: self.now, plans=PLANS)

    def filing(self, one: FrameKey) -> Filing:
        excluded = self.random.choice(("", "", "focus"))
        revision = self.store.ledger.revision(one) + 1
        return Filing(record(one, n=self.random.randrange(6), shape=SHAPE, revision=revision, excluded=excluded))

    def any_key(self) -> FrameKey:
        return key(self.random.choice(("A1", "A2", "B1")), self.random.randrange(4), self.random.choice("12"))

    def is_undone(self, one: FrameKey) -> bool:
        ledger = self.store.ledger
        return ledger.frame(one) is None or ledger.is_lost(one, ledger.revision(one))

    def commit(self) -> None:
        keys = dict.fromkeys((self.any_key(), key("C1", self.random.randrange(3)), self.any_key()))
        filings = [self.filing(one) for one in keys if self.is_undone(one)]
        for answer in self.store.append_all(filings[: self.random.choice((1, 3))]):
            assert not isinstance(answer, Exception)

    def revise(self) -> None:
        if not self.is_undone(one := self.any_key()):
            self.store.append_all([self.filing(one)])

    def attach(self) -> None:
        one = self.any_key()
        known = self.store.ledger.frame(one)
        if known is None or self.is_undone(one) or "channel-1" in known.channels:
            return
        self.late += 1
        file = FileRef(f"late{self.late}.tif", 5, self.late, f"{self.late:064x}")
        self.store.attach(replace(record(one, shape=SHAPE).frame, channels=("channel-1",), files=(file,)))
        assert self.store.ledger.is_done("scope", file.path, file.size, file.mtime_ns)

    def call_again(self) -> None:
        one = self.any_key()
        known = self.store.ledger.frame(one)
        if known is None or self.is_undone(one) or "measurements" in self.store.ledger.dropped(SERIES, known.t):
            return
        self.store.append_calls(known, calls_of(known.n_cells, bundle="77" * 32), CLASSES, GROUPS)

    def retire(self) -> None:
        if units := self.store.ledger.units(SERIES):
            one, tier = self.random.choice(units), self.random.choice(TIERS)
            if tier not in one.dropped:
                later = self.now + timedelta(days=99)
                list(drop(self.store, [Drop(SERIES, one.t, (tier,), "age", 1)], [], now=later, going=lambda: True))

    def spoil_a_chunk(self) -> None:
        frames = self.store.ledger.frames(SERIES)
        if not frames:
            return
        one = self.random.choice(frames)
        [folder] = plate_folders(self.root)
        self.store.close()
        if chunks := sorted((folder / one.path).rglob(f"c.{one.t}.*")):
            path = self.random.choice(chunks)
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 0x40
            path.write_bytes(data)
        repair(self.root)
        again = repair(self.root)
        assert not any((again.derived, again.strays, again.documents))
        self.open()

    def spoil_a_line(self) -> None:
        folders = plate_folders(self.root)
        if not folders:
            return
        self.store.close()
        journal = folders[0] / "journal.jsonl"
        rows = journal.read_bytes().splitlines(keepends=True)
        if frames := [place for place, row in enumerate(rows[:-1]) if b'"kind":"frame"' in row]:
            place = self.random.choice(frames)
            rows[place] = rows[place].replace(b'"frame"', b'"frbme"')
            journal.write_bytes(b"".join(rows))
        self.open()

    def reopen(self) -> None:
        self.store.close()
        self.open()
        for one in self.store.recovered:
            assert not any((one.orphans, one.doubled, one.documents, one.derived, one.missing, one.dropped))

    def show(self) -> None:
        self.store.publish(SERIES)


Tally = Counter[tuple[str, int, str]]  # (well, time point, state) -> cells


def counted_in_table(root: Path) -> Tally:
    """The table's counted rows, and what the journal says of the frames that the table leaves out, saying so."""
    left_out: list[tuple[FrameKey, int]] = []
    tally: Tally = Counter()
    for block in table.rows(root, lambda frame, _: left_out.append((frame.key, frame.revision))):
        rows = block.to_pydict()
        places = zip(rows["well"], rows["timepoint"], rows["state"], rows["counted"], strict=True)
        tally.update((well, timepoint, state) for well, timepoint, state, counted in places if counted)
    ledger = read_ledger(root)
    for one, revision in left_out:
        known, calls = ledger.frame(one, revision), ledger.calls(one, revision)
        if known and calls and ledger.revision(one) == revision and known.outcome == "counted":
            tally.update({(one.well, one.timepoint, state): cells for state, cells in calls[1].items()})
    return +tally


def counted_in_journal(root: Path) -> Tally:
    """The well-by-time table."""
    ledger = read_ledger(root)
    tally: Tally = Counter()
    for series in ledger.series():
        for one in ledger.well_times(series):
            tally.update({(one.well, one.timepoint, state): cells for state, cells in one.counts.items()})
    return +tally


@pytest.fixture
def drills(memory: Path) -> Iterator[list[Drill]]:
    made: list[Drill] = []
    yield made
    for one in made:
        one.store.close()


@pytest.mark.parametrize("seed", [105, 14, 21, 300])
def test_the_accounts_agree_after_every_step(memory: Path, drills: list[Drill], seed: int):
    drill = Drill(memory / "store", seed)
    drills.append(drill)
    operations = (
        *[drill.commit] * 4, drill.revise, drill.attach, drill.call_again, drill.retire, drill.spoil_a_chunk,
        drill.spoil_a_line, drill.reopen, drill.show,
    )  # fmt: skip
    for _ in range(STEPS):
        drill.now += timedelta(minutes=drill.random.choice((1, 5, -60, 60, 300)))
        operation = drill.random.choice(operations)
        operation()
        assert counted_in_table(drill.root) == counted_in_journal(drill.root), operation.__name__
        frames = [(one.path, one.t) for one in read_ledger(drill.root).frames(SERIES)]
        assert len(frames) == len(set(frames)), operation.__name__
