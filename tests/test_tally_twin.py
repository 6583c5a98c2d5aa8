"""Whatever happens to an assay, a tally that has seen it all shows what one that has just begun makes of the record.

So a restart at any moment changes nothing, and no figure depends on what only a running process knew. What shows holds
together, too: ends of intervals, shares, onsets, and the history's newest values.
"""

from __future__ import annotations

import math
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics

from cellvigil import config
from cellvigil.data import Calls
from cellvigil.history import write_history
from cellvigil.metrics import Metrics
from cellvigil.service.tally import Tally
from cellvigil.store.writer import open_store
from store_records import BUNDLE, GROUPS, SERIES, START, calls_of, hash_of, key, record

WELLS = ("A1", "A2", "A3", "B1", "B2")
MAPS = (
    None,
    "well,compound,dose,unit,role\nA1,,,,control\nA2,,,,control\nA3,,,,control\nB1,drug,1,uM,treated\nB2,drug,3,uM,treated\n",
    'well,compound,dose,unit,role,treated_at\nA1,,,,control\nB1,b"d,1,uM,treated,2024-03-01T21:10\nZ9,d,1,uM,treated,\n',
    "well,role\nA1,control\nA1,treated\n",
)
EVENTS = (
    None,
    "at,kind,wells\n2024-03-01 20:40,dosed,\n",
    "at,kind,wells\n2024-03-01 20:40,dosed,\n2024-03-01 21:00,plate_out,\n2024-03-01 21:40,plate_out,\n"
    "2024-03-01 22:20,plate_in,\n2024-03-01 22:40,medium,B1\n",
    "nonsense",
)
COARSE = {"intact": "alive", "broken": "dead"}

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

places = st.tuples(st.sampled_from(WELLS), st.integers(0, 6), st.sampled_from("12"))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("round"), st.integers(0, 6)),
        st.tuples(st.sampled_from(["frame", "left_out", "rewritten", "called_again", "called_coarsely"]), places),
        st.tuples(st.just("map"), st.sampled_from(MAPS)),
        st.tuples(st.just("events"), st.sampled_from(EVENTS)),
        st.tuples(st.just("clock"), st.sampled_from([-20, 1, 11, 600])),
        st.tuples(st.sampled_from(["reopen", "delete"]), st.none()),
    ),
    min_size=1,
    max_size=10,
)


class Assay:
    """A store whose tally has seen everything that happened."""

    def __init__(self, root: Path, fields: int) -> None:
        (root / "images").mkdir()
        source = {"name": "scope", "kind": "gen5", "path": "images", "timezone": "UTC", "index": "i",
                  "plate_map": "plate.csv", "events": "events.csv", "expect": {"fields": fields},
                  "frame_timeout_s": 600}  # fmt: skip
        self.settings = config.parse({"version": 1, "sources": [source], "metrics": {"max_wells": 4}}, base=root)
        self.root, self.now = root, START
        self.revisions: dict[tuple[str, int, str], int] = {}
        self.open()

    def open(self) -> None:
        self.store = open_store(self.root / "store", now=lambda: self.now)
        self.tally = self.fresh()

    def close(self) -> None:
        self.store.close()

    def fresh(self) -> Tally:
        return Tally(self.store, self.settings, Metrics(CollectorRegistry()))

    def do(self, what: str, told: object) -> None:
        if what in ("map", "events"):
            self.save({"map": "plate.csv", "events": "events.csv"}[what], told)
        elif what in ("frame", "left_out"):
            self.commit(told, excluded="focus" if what == "left_out" else "")
        elif what in ("rewritten", "called_again", "called_coarsely"):
            self.again(what, told)
        elif what == "round":
            for well in WELLS:
                self.commit((well, told, "1"))
        elif what == "clock":
            self.now += timedelta(minutes=told)
        elif what == "reopen":
            self.close()
            self.open()
        elif self.store.leave(SERIES):  # "delete"
            self.revisions.clear()

    def save(self, name: str, text: str | None) -> None:
        (self.root / name).unlink(missing_ok=True)
        if text is not None:
            (self.root / name).write_text(text, encoding="utf-8")

    def again(self, what: str, place: tuple[str, int, str]) -> None:
        if place not in self.revisions:
            return
        if what == "rewritten":
            self.revisions[place] += 1
            self.append(place)
        else:
            self.call_again(place, COARSE if what == "called_coarsely" else GROUPS)

    def commit(self, place: tuple[str, int, str], **more: object) -> None:
        if place not in self.revisions:
            self.revisions[place] = 0
            self.append(place, **more)

    def append(self, place: tuple[str, int, str], **more: object) -> None:
        revision = self.revisions[place]
        calls = mostly_live(place, revision)
        cells = len(calls.best_ids)
        self.store.append(
            record(key(*place), n=cells, shape=(1, 12, 18), revision=revision, calls=calls, dimension=2, **more)
        )

    def call_again(self, place: tuple[str, int, str], groups: dict[str, str]) -> None:
        frame = self.store.ledger.frame(key(*place))
        calls = calls_of(frame.n_cells, seed=9, bundle=f"{len(groups)}" * 64, classes=len(groups))
        self.store.append_calls(frame, calls, tuple(groups), groups)


def mostly_live(place: tuple[str, int, str], revision: int) -> Calls:
    """Treated wells die as time goes on; a few have hardly a cell."""
    well, timepoint, _ = place
    seed = hash_of(f"{place} {revision}")
    cells = (0, 1, 4, 150, 190, 190, 190, 190)[seed % 8]
    calls = calls_of(cells, seed=seed, bundle=BUNDLE)
    alive = np.random.default_rng(seed).random(cells) < (0.95 if well[0] == "A" else 0.95 - 0.15 * timepoint)
    return replace(calls, best_ids=np.where(alive, 0, calls.best_ids).astype(np.int16))


def samples(text: bytes) -> Samples:
    every = openmetrics(text.decode() + "# EOF\n")
    return {(s.name, frozenset(s.labels.items())): s.value for family in every for s in family.samples}


def holds_together(found: Samples) -> None:
    whole: dict[tuple[str, ...], float] = defaultdict(float)
    for (name, labels), value in found.items():
        assert not math.isnan(value)
        if name.endswith(("_low", "_high")):
            assert (name.rsplit("_", 1)[0], labels) in found
        if (f"{name}_low", labels) in found or (f"{name}_high", labels) in found:
            assert found[f"{name}_low", labels] <= value <= found[f"{name}_high", labels]
        if name in ("cellvigil_state_share", "cellvigil_arm_share"):
            told = dict(labels)
            whole[name, told.get("well", ""), told.get("arm", ""), told["estimate"]] += value
        if name == "cellvigil_response_onset_timestamp_seconds":
            assert value > found["cellvigil_treated_timestamp_seconds", labels]
    assert all(math.isclose(share, 1) for share in whole.values())


def newest(path: Path) -> Iterator[tuple[tuple[str, frozenset[tuple[str, str]]], float]]:
    for family in openmetrics(path.read_text(encoding="utf-8")):
        for sample in family.samples:  # in order of time: the last stands
            yield (sample.name, frozenset(sample.labels.items())), sample.value


# The history has no mixed times: an arm's wells may stand at several, and stain stands until the next.
MIXED = "cellvigil_arm_"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps, st.sampled_from([1, 1, 2]))
def test_a_tally_that_has_seen_it_all_shows_what_a_new_one_makes_of_the_record(told, fields):
    with tempfile.TemporaryDirectory() as folder, closing(Assay(Path(folder), fields)) as assay:
        for place, step in enumerate([("map", MAPS[1]), ("events", EVENTS[1]), ("round", 0), ("round", 2), *told]):
            assay.do(*step)
            if place < 3:
                continue
            assay.tally.look(assay.now)
            twin = assay.fresh()
            twin.look(assay.now)
            shown = samples(assay.tally.snapshot.scrape.text)
            assert shown == samples(twin.snapshot.scrape.text)
            assert assay.tally.snapshot.left_out == twin.snapshot.left_out
            holds_together(shown)
        if assay.store.ledger.series():
            write_history(assay.root / "store", assay.root / "h.om", now=assay.now, settings=assay.settings)
            history = dict(newest(assay.root / "h.om"))
            for place, value in shown.items():
                assert place[0].startswith(MIXED) or math.isclose(history[place], value, rel_tol=1e-9)
