"""Well profiles: means of means, sphering on controls, nearest treatments; and all of it from a real store."""

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cellvigil.errors import UsageError
from cellvigil.ledger import Design
from cellvigil.platemap import PlatePlan, WellPlan
from cellvigil.service.serve import once
from cellvigil.store import encode
from cellvigil.store.writer import open_store
from cellvigil_indexes.cli import main
from cellvigil_indexes.profiles.aggregate import mean_of, means_by
from cellvigil_indexes.profiles.comparing import encoders_of, plain, sphered, treatments
from cellvigil_indexes.profiles.nearest import cosines, nearest
from cellvigil_indexes.profiles.reading import read_profiles
from cellvigil_indexes.profiles.sphering import fit
from cellvigil_indexes.profiles.values import WellProfile
from store_records import PROFILE, SERIES, START, key, record

VECTORS = hnp.arrays(np.float32, st.tuples(st.integers(3, 12), st.integers(1, 20)), elements=st.floats(-5, 5, width=16))


def test_a_field_with_many_cells_weighs_no_more_than_one_with_few():
    many, few = np.zeros((90, 2), dtype=np.float32), np.ones((10, 2), dtype=np.float32)
    assert mean_of([mean_of(many), mean_of(few)]).tolist() == [0.5, 0.5]
    with pytest.raises(ValueError, match="no vector"):
        mean_of(np.zeros((0, 2), dtype=np.float32))


def test_means_are_taken_by_key_in_the_order_keys_come():
    pairs = [("b", np.array([1.0])), ("a", np.array([5.0])), ("b", np.array([3.0]))]
    assert {name: mean.tolist() for name, mean in means_by(pairs).items()} == {"b": [2.0], "a": [5.0]}
    assert list(means_by(pairs)) == ["b", "a"]


@settings(max_examples=60, deadline=None)
@given(VECTORS, st.floats(0.01, 10))
def test_sphering_is_the_papers_transform(controls, regularisation):
    """W = V (L + a I)^(-1/2) V' of the whole covariance, formed as it stands."""
    if np.ptp(controls, axis=0).max() < 0.1:
        return
    centred = controls.astype(float) - controls.mean(axis=0, dtype=float)
    values, turns = np.linalg.eigh(centred.T @ centred / (len(controls) - 1))
    spanned = values[values > 1e-10 * values.max()]
    fitted = fit(controls, [0] * len(controls), regularisation=regularisation)
    floor = regularisation * np.median(spanned)
    whole = turns @ np.diag((np.maximum(values, 0) + floor) ** -0.5) @ turns.T
    asked = np.random.default_rng(0).normal(size=(4, controls.shape[1])).astype(np.float32)
    wanted = (asked - controls.mean(axis=0, dtype=float)) @ whole
    np.testing.assert_allclose(fitted.of(asked, [0] * 4), wanted, rtol=1e-3, atol=1e-3 * np.abs(wanted).max())


def test_controls_vary_alike_in_every_direction_after_sphering():
    random = np.random.default_rng(0)
    controls = (random.normal(size=(400, 6)) * [10, 5, 2, 1, 0.5, 0.2] + 7).astype(np.float32)
    turned = fit(controls, [0] * 400, regularisation=1e-6).of(controls, [0] * 400)
    np.testing.assert_allclose(np.cov(turned.T), np.eye(6), atol=0.01)


def test_controls_are_centred_within_their_own_stratum():
    random = np.random.default_rng(1)
    strata = ["early"] * 5 + ["late"] * 5
    controls = random.normal(size=(10, 3)).astype(np.float32) + np.repeat([[0.0], [100.0]], 5, axis=0).astype(
        np.float32
    )
    fitted = fit(controls, strata)
    turned = fitted.of(controls, strata)
    np.testing.assert_allclose(turned[:5].mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(turned[5:].mean(axis=0), 0, atol=1e-4)
    assert fitted.variances.max() < 10  # the passing of time is no variance


@pytest.mark.parametrize(
    ("controls", "strata", "regularisation", "words"),
    [
        (np.eye(1, 4, dtype=np.float32), [0], 0.1, "two control wells"),
        (np.eye(3, 4, dtype=np.float32), [0, 1, 2], 0.1, "two control wells"),
        (np.ones((3, 4), dtype=np.float32), [0, 0, 0], 0.1, "all alike"),
        (np.eye(3, 4, dtype=np.float32), [0, 0, 0], 0.0, "regularisation"),
    ],
)
def test_what_cannot_be_sphered_is_said(controls, strata, regularisation, words):
    with pytest.raises(UsageError, match=words):
        fit(controls, strata, regularisation=regularisation)


def test_nearest_are_ordered_by_cosine_and_a_zero_vector_has_none():
    vectors = np.array([[1, 0], [1, 1], [-1, 0], [0, 0]], dtype=np.float32)
    found = nearest(["a", "b", "c", "nothing"], vectors, 2)
    assert [(one.name, round(one.cosine, 3)) for one in found["a"]] == [("b", 0.707), ("c", -1.0)]
    assert found["nothing"] == ()
    assert all("nothing" not in [one.name for one in near] for near in found.values())


@settings(max_examples=40, deadline=None)
@given(VECTORS)
def test_cosines_are_the_written_ones(vectors):
    found = cosines(vectors)
    for i, a in enumerate(vectors.astype(float)):
        for j, b in enumerate(vectors.astype(float)):
            lengths = np.linalg.norm(a) * np.linalg.norm(b)
            assert (np.isnan(found[i, j]) and not lengths) or found[i, j] == pytest.approx(a @ b / lengths, abs=1e-6)


def well(name, role, vector, *, timepoint=0, compound="", plate="P", encoder="one"):
    plan = WellPlan(name, role, compound) if role else None
    arm = compound or role
    vectors = {encoder: np.asarray(vector, dtype=np.float32)}
    return WellProfile(("s", "e", plate), name, timepoint, START, vectors, 1, 10, plan, arm)


def made_plate(seed=0):
    """Two compounds that push alike and one that pushes elsewhere, on two plates with a large shift between them."""
    random = np.random.default_rng(seed)
    noise = np.array([20.0] + [0.2] * 11)  # one direction in which wells differ for no good reason
    pushes = {"A": np.eye(12)[1] * 3, "B": np.eye(12)[1] * 2.5, "C": np.eye(12)[2] * 3}
    for plate, shift in (("P", 0.0), ("Q", 40.0)):
        for number in range(6):
            yield well(f"A{number + 1}", "control", random.normal(size=12) * noise + shift, plate=plate)
        for row, (compound, push) in enumerate(pushes.items()):
            for number in range(3):
                vector = random.normal(size=12) * noise + shift + push
                yield well(f"{'BCD'[row]}{number + 1}", "treated", vector, compound=compound, plate=plate)


@pytest.mark.parametrize("seed", range(3))
def test_treatments_that_push_alike_are_nearest_once_sphered(seed):
    profiles = list(made_plate(seed))
    found = {each.arm: each for each in treatments(sphered(profiles), 0)}
    assert set(found) == {"A", "B", "C"}
    assert (found["A"].nearest[0].name, found["B"].nearest[0].name) == ("B", "A")
    assert found["A"].nearest[0].cosine > 0.8
    assert max(near.cosine for near in found["C"].nearest) < 0.5
    assert found["A"].wells == 6
    assert min(each.effect for each in found.values()) > 1


@pytest.mark.parametrize("controls", [4, 12])
def test_wells_that_got_nothing_have_an_effect_of_about_one(controls):
    random = np.random.default_rng(5)
    profiles = [well(f"A{n}", "control", random.normal(size=300)) for n in range(controls)]
    profiles += [well(f"B{n}", "treated", random.normal(size=300), compound=f"nothing {n}") for n in range(20)]
    profiles = [replace(each, vectors={**each.vectors, "big": each.vectors["one"][:90] * 1000}) for each in profiles]
    found = sphered(profiles)
    assert found.encoders == ("one", "big")
    assert 0.8 < np.mean([each.effect for each in treatments(found, 0)]) < 1.2


def test_two_controls_are_enough_for_sphering_though_none_can_be_left_out():
    profiles = [well("A1", "control", [0, 0, 0]), well("A2", "control", [2, 0, 0])]
    found = treatments(sphered([*profiles, well("B1", "treated", [1, 9, 0], compound="X")]), 0)
    assert found[0].effect > 1


def test_wells_that_cannot_be_held_against_controls_are_counted():
    extra = [
        well("H1", "", np.ones(12)),
        well("H2", "blank", np.ones(12)),
        well("H3", "treated", np.ones(12), compound="A", timepoint=9),
    ]
    found = sphered([*made_plate(), *extra])
    assert (found.unplanned, found.without_control) == (2, 1)
    assert {each.well for each in found.profiles}.isdisjoint({"H1", "H2", "H3"})
    assert treatments(found, 9) == ()


def test_profiles_without_controls_or_a_shared_encoder_are_said():
    with pytest.raises(UsageError, match="no control well"):
        sphered([well("A1", "treated", np.ones(3), compound="A")])
    with pytest.raises(UsageError, match="no encoder"):
        encoders_of([well("A1", "control", np.ones(3)), well("A2", "control", np.ones(3), encoder="two")])
    with pytest.raises(UsageError, match="no well profile"):
        encoders_of([])


WELLS = {
    **{f"A{n}": WellPlan(f"A{n}", "control", vehicle="DMSO") for n in (1, 2, 3)},
    "B1": WellPlan("B1", "treated", "Raptinal", 10.0, "uM"),
    "B2": WellPlan("B2", "treated", "Raptinal", 10.0, "uM"),
    "C1": WellPlan("C1", "treated", "Other", 1.0, "uM"),
}


def filled(path, **how):
    """A store of two time points, two fields a well; one frame done again, one excluded, one without cells."""
    store = open_store(path, **how)
    for timepoint in range(2):
        for name in WELLS:
            for field in ("1", "2"):
                store.append(record(key(name, timepoint, field), n=12))
    store.append(record(key("A1", 0, "1"), n=9, revision=1))
    store.append(record(key("A1", 0, "3"), n=9, excluded="focus"))
    store.append(record(key("D1", 0), n=0))
    store.journal_lines(SERIES, [Design(PlatePlan(WELLS)).line(SERIES, START)])
    store.close()
    return path


def rows_of(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return filled(tmp_path_factory.mktemp("written") / "store")


@pytest.fixture
def store(written, tmp_path):
    return shutil.copytree(written, tmp_path / "store")


def test_a_stored_wells_profile_is_the_mean_of_its_fields_means(store):
    profiles, missing = read_profiles(store)
    assert missing.count == 0
    assert [(each.well, each.timepoint) for each in profiles] == [(name, t) for name in WELLS for t in range(2)]
    one = profiles[0]
    fields = []
    for again in (record(key("A1", 0, "1"), n=9, revision=1), record(key("A1", 0, "2"), n=12)):
        counted = ~again.cells.touches_edge
        fields.append(again.embeddings["lite0"][counted].mean(axis=0, dtype=float))
    np.testing.assert_allclose(one.vectors["lite0"], np.mean(fields, axis=0), rtol=1e-5)
    assert (one.fields, one.arm, one.acquired_at) == (2, "control", START)
    assert {each.arm for each in profiles} == {"control", "Raptinal 10 uM", "Other 1 uM"}


def test_the_command_writes_profiles_and_names_the_nearest(store, tmp_path, capsys):
    out = tmp_path / "profiles.parquet"
    assert main(["profile", "--store", str(store), "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["profiles"], told["sphered"], told["timepoint"]) == (12, True, 1)
    assert {each["arm"]: each["nearest"][0]["arm"] for each in told["treatments"]} == {
        "Raptinal 10 uM": "Other 1 uM",
        "Other 1 uM": "Raptinal 10 uM",
    }
    table = pyarrow.parquet.read_table(out)
    assert table.num_rows == 12
    vectors = np.column_stack([table[f"profile_{place}"].to_numpy() for place in range(8)])
    np.testing.assert_allclose(vectors, sphered(read_profiles(store)[0]).vectors)
    assert main(["profile", "--store", str(store), "--out", str(out)]) == 0
    assert "12 profiles" in capsys.readouterr().out


def test_a_plate_map_given_stands_in_for_the_records(store, tmp_path, capsys):
    out, plate = tmp_path / "profiles.csv", tmp_path / "plate.csv"
    asked = ["profile", "--store", str(store), "--out", str(out), "--plate-map", str(plate)]
    plate.write_text("well,role,compound\nA1,treated,X\n", encoding="utf-8")
    assert main(asked) == 2
    assert "no control well has a profile" in capsys.readouterr().err
    wells = ("A1,control,", "A2,control,", "A3,control,", "B1,treated,X")
    plate.write_text("\n".join(["well,role,compound", *wells]), encoding="utf-8")
    assert main(asked) == 0
    assert "without 4 profiles of wells that are blank, or not in the plate map" in capsys.readouterr().out
    assert {row["arm"] for row in rows_of(out)} == {"control", "X"}


def test_plain_profiles_are_the_means_as_they_are(store, tmp_path, capsys):
    assert main(["profile", "--store", str(store), "--out", str(tmp_path / "plain.csv"), "--plain"]) == 0
    assert "12 profiles" in capsys.readouterr().out
    rows = rows_of(tmp_path / "plain.csv")
    first = plain(read_profiles(store)[0], ["lite0"])[0]
    assert [float(rows[0][f"profile_{place}"]) for place in range(8)] == pytest.approx(first.tolist())


def forget(path, tier):
    """As retention deletes a tier of the second time point."""
    going = open_store(path)
    line = {"kind": "dropped", "series": [*SERIES], "t": 1, "tiers": [tier], "why": "age"}
    going.journal_lines(SERIES, [{**line, "committed_at": "2026-01-01T00:00:00Z"}])
    for chunk in going.chunk_paths(SERIES, 1, [tier]):
        chunk.unlink(missing_ok=True)
    going.close()


def test_profiles_outlive_the_embeddings(store):
    before, _ = read_profiles(store)
    forget(store, "embeddings")
    after, missing = read_profiles(store)
    assert missing.count == 0
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one.vectors["lite0"], other.vectors["lite0"])


def test_profiles_go_with_the_measurements_and_are_counted(store, tmp_path, capsys):
    forget(store, "measurements")
    profiles, missing = read_profiles(store)
    assert {each.timepoint for each in profiles} == {0}
    assert missing.dropped == 12
    assert main(["profile", "--store", str(store), "--out", str(tmp_path / "p.csv")]) == 0
    assert "without 12 frames, whose rows retention deleted" in capsys.readouterr().out


def test_a_store_that_keeps_no_embeddings_has_profiles(tmp_path):
    profiles, missing = read_profiles(filled(tmp_path / "store", embeddings=False))
    assert missing.count == 0
    assert len(profiles) == 12


@pytest.fixture
def older(monkeypatch):
    """Stores are written as by a version that recorded no profiles."""
    rows = encode.row_tables

    def without(*args, **options):
        return [each for each in rows(*args, **options) if not each[0].name.startswith("cells/profile-")]

    monkeypatch.setattr(encode, "row_tables", without)


def test_frames_of_older_versions_are_profiled_from_their_embeddings(store, older, tmp_path):
    path = filled(tmp_path / "older")
    then, now = read_profiles(path)[0], read_profiles(store)[0]
    for one, other in zip(then, now, strict=True):
        np.testing.assert_allclose(one.vectors["lite0"], other.vectors["lite0"], rtol=1e-2, atol=1e-3)
    forget(path, "embeddings")
    assert read_profiles(path)[1].dropped == 12


def test_an_older_store_that_kept_no_embeddings_says_so(older, tmp_path, capsys):
    path = filled(tmp_path / "store", embeddings=False)
    assert read_profiles(path)[1].never_kept == 24
    assert main(["profile", "--store", str(path), "--out", str(tmp_path / "p.csv")]) == 2
    assert "store.embeddings: true" in capsys.readouterr().err


def test_damaged_rows_are_counted(store):
    plate = store / "scope/240301_run/Plate 1.zarr"
    (plate / "B/1/0" / PROFILE / "c.1.0.0").write_bytes(b"torn")
    assert read_profiles(store)[1].damaged == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["--out", "profiles.txt"], "neither .parquet nor .csv"),
        (["--timepoint", "7"], "there are 0 to 1"),
        (["--regularisation", "0"], "above 0"),
    ],
)
def test_bad_options_are_said(store, tmp_path, capsys, changes, words):
    asked = ["profile", "--store", str(store), "--out", str(tmp_path / "profiles.csv"), *changes]
    assert main(asked) == 2
    assert words in capsys.readouterr().err


def test_a_folder_without_plates_is_no_store(tmp_path, capsys):
    assert main(["profile", "--store", str(tmp_path), "--out", str(tmp_path / "p.csv")]) == 2
    assert "no plate in this store" in capsys.readouterr().err


def test_a_watched_assays_dying_wells_stand_farther_from_the_controls_than_others(lab, tmp_path, capsys):
    """End to end: filmed, watched, embedded by a real encoder, stored, profiled."""
    wells = ("A1", "A2", "A3", "A4", "A5", "B1", "B2")
    lab.film(timepoints=3, minutes=480.0, dosed_at=0, wells=wells, treated=("B1", "B2"))
    once(lab.config(segment={"cell_diameter_um": 18.0}))
    plate = tmp_path / "plate.csv"
    wells = (*(f"A{n},control," for n in range(1, 5)), "A5,treated,water", "B1,treated,drug", "B2,treated,drug")
    plate.write_text("\n".join(["well,role,compound", *wells]), encoding="utf-8")
    asked = ["profile", "--store", str(lab.store), "--out", str(tmp_path / "p.csv"), "--plate-map", str(plate)]
    capsys.readouterr()
    assert main([*asked, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["profiles"] >= 18  # 7 wells at 3 times, less what shows no whole cell
    effects = {each["arm"]: each["effect"] for each in told["treatments"]}
    assert effects["drug"] > effects["water"], told["treatments"]
