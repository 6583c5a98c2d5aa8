"""A daemon, and `classify`, calling by an index with voters: their agreement is in store, table and metric."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from cellvigil.bundle.encoder import open_encoder
from cellvigil.bundle.index import open_index
from cellvigil.classify import classify
from cellvigil.classify_page import page
from cellvigil.cli import main
from cellvigil.encoder import open_session
from cellvigil.store.reader import plate_lines
from cellvigil.store.recover import plate_folders
from cellvigil.table import rows
from cellvigil_indexes.aligned import write_aligned
from cellvigil_indexes.cli import main as index_main
from index_fixtures import write_singles
from lab import Lab
from voter_cells import contrary


@pytest.fixture(scope="module")
def indexes(tmp_path_factory, state_indexes):
    """The lab's own index, `voted`: the same with a voter that is always wrong, and `doubtful`: a fit not accepted."""
    folder = tmp_path_factory.mktemp("voted")
    shutil.copytree(state_indexes / "states", folder / "states")
    own = open_index(folder / "states")
    name = own.encoders[0].name
    witnesses = {name: np.asarray(own.embeddings[name])}
    write_aligned(folder / "voted", own, contrary(own), witnesses=witnesses)
    write_aligned(folder / "doubtful", own, replace(contrary(own), accepted=False))
    return folder


def config_file(lab: Lab, indexes, **source):
    return lab.config_file(source={"index": "voted", **source}, classify={"indexes": str(indexes)})


def test_frames_are_committed_with_the_agreement_of_the_voters(lab: Lab, indexes):
    lab.film(timepoints=1)
    assert main(["once", "--config", str(config_file(lab, indexes))]) == 0
    cells = [row for batch in rows(lab.store) for row in batch.to_pylist()]
    voted = open_index(indexes / "voted")
    assert len(cells) > 3
    assert {row["bundle"] for row in cells} == {voted.sha256}
    assert {round(row["agreement"], 5) for row in cells} <= {0.6, 0.4, 1.0}
    assert all(row["for_expert"] == (row["agreement"] < 0.66 or row["unknown"]) for row in cells)
    assert any(row["for_expert"] for row in cells)
    assert all(row["probability"] is None for row in cells)
    assert all(row["novelty_p"] is not None for row in cells)
    lines = [line for folder in plate_folders(lab.store) for line in plate_lines(folder) if line["kind"] == "frame"]
    for line in lines:
        mine = [row for row in cells if row["well"] == line["key"][3] and row["field"] == line["key"][4]]
        sure = [row["agreement"] for row in mine if not row["touches_edge"]]
        assert line["certainty"]["voted"] == len(sure)
        assert line["certainty"]["agreement"] == pytest.approx(sum(sure), abs=1e-4)
        assert line["certainty"]["rated"] == 0


def test_the_mean_agreement_of_a_well_is_a_metric(lab: Lab, indexes):
    lab.film(timepoints=1)
    with lab.service(source={"index": "voted"}, classify={"indexes": str(indexes)}) as service:
        service.wait_for(lambda: service.committed() >= 2)
        service.tallied()
        found = {
            dict(labels)["well"]: value
            for (name, labels), value in service.samples().items()
            if name == "cellvigil_agreement_ratio"
        }
        assert service.terminate() == 0
    assert set(found) == {"A1", "B1"}
    ledger = lab.ledger()
    [series] = ledger.series()
    for well, value in found.items():
        place = ledger.well_time(series, well, 0)
        assert place is not None
        assert value == pytest.approx(place.agreement, abs=1e-5)
        assert 0.4 <= value <= 1


def test_one_voter_has_no_agreement_on_record(lab: Lab):
    lab.film(timepoints=1)
    assert main(["once", "--config", str(lab.config_file())]) == 0
    lines = [line for folder in plate_folders(lab.store) for line in plate_lines(folder) if line["kind"] == "frame"]
    assert lines
    assert not any("agreement" in line["certainty"] for line in lines)
    ledger = lab.ledger()
    [series] = ledger.series()
    place = ledger.well_time(series, "A1", 0)
    assert place is not None
    assert np.isnan(place.agreement)


@pytest.mark.parametrize(
    ("index", "source", "said", "silent"),
    [
        ("voted", {}, "was aligned to another device", "was not accepted"),
        ("voted", {}, "cells of a class that it lacks are mostly called the nearest one", "was not accepted"),
        ("doubtful", {}, "was not accepted as a fit", "has too few witnesses"),
        ("doubtful", {"same_device_as_index": True}, "has too few witnesses of its target", "build it again"),
    ],
)
def test_check_says_what_an_aligned_index_cannot_say(lab: Lab, indexes, capsys, index, source, said, silent):
    main(["check", "--config", str(config_file(lab, indexes, index=index, **source))])
    told = capsys.readouterr().out
    assert said in told
    assert silent not in told


@pytest.fixture(scope="module")
def singles(lite0, tmp_path_factory):
    """Pictures of single cells, an index of them, and `voted`."""
    base = tmp_path_factory.mktemp("singles")
    pictures = write_singles(base / "cells", 8)
    words = ("build", "whole", "--images", pictures, "--encoder", lite0.name, "--encoders", lite0.parent)
    more = ("--set-aside", "0", "--device", "cpu", "--out", base / "indexes", "--k-max", "6")
    assert index_main([str(word) for word in (*words, *more)]) == 0
    whole = open_index(base / "indexes" / "whole")
    return pictures, write_aligned(base / "indexes" / "voted", whole, contrary(whole))


def test_classify_tells_each_voter_s_opinion_and_shows_who_agrees(singles, lite0):
    pictures, index = singles
    paths = sorted(pictures.glob("*/*.png"))[:6]
    encoder = open_session(open_encoder(lite0), device="cpu")
    answers = list(classify(paths, index, [encoder], nearest=3))
    for path, answer in zip(paths, answers, strict=True):
        assert answer.label == answer.best == path.parent.name
        assert answer.voters["as it was"] == answer.best != answer.voters["contrary"]
        assert answer.agreement == pytest.approx(0.6)
        assert answer.for_expert
        assert answer.probability is answer.possible is answer.novelty_p is None
        assert answer.nearest[0].class_name == answer.best  # of the voter that speaks for the call
    told = page(answers, index)
    assert "voters that agree: 60%" in told
    assert "for an expert to look at" in told


def test_classify_prints_it(singles, lite0, capsys):
    pictures, index = singles
    words = ["classify", next(pictures.glob("*/*.png")), "--index", "voted", "--indexes", index.folder.parent]
    words += ["--encoders", lite0.parent, "--device", "cpu"]
    assert main([str(word) for word in words]) == 0
    assert "60% of the voters agree, for an expert" in capsys.readouterr().out
    assert main([str(word) for word in (*words, "--json")]) == 0
    [cell] = json.loads(capsys.readouterr().out)["cells"]
    assert set(cell["voters"]) == {"as it was", "contrary"}
