"""`cellvigil-index align` and `evaluate --align` as a person uses them: pictures of two microscopes, real encoders."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from aligned_fixtures import ENCODERS, build_reference, flattened, write_cells, write_device
from cellvigil.bundle.index import open_index, reference_cells
from cellvigil_indexes.aligning.settings import METHODS
from cellvigil_indexes.cli import main, parser
from conftest import once_for_all
from index_fixtures import STATES


def devices(base: Path) -> Path:
    """An index of one microscope, and cells of another: `sorted` and `flat`."""
    with (base / "built.txt").open("w") as out, contextlib.redirect_stdout(out):
        build_reference(base)
    flattened(write_device(base / "sorted", 80), base / "flat")
    return base


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> Path:
    """Made once, read only."""
    return once_for_all(tmp_path_factory, "devices", devices)


@dataclass(frozen=True)
class Bench:
    """A folder of indexes to write to."""

    base: Path
    out: Path

    def words(self, name, *words):
        where = ["--encoders", self.base / "encoders", "--device", "cpu", "--out", self.out, "--cache", self.out / "c"]
        return [str(word) for word in (name, "states", *words, *where)]


@pytest.fixture
def bench(base, tmp_path) -> Bench:
    (tmp_path / "indexes").mkdir()
    (tmp_path / "indexes" / "states").symlink_to(base / "indexes" / "states")
    return Bench(base, tmp_path / "indexes")


@pytest.fixture
def run(bench, capsys):
    """Run a command; (code, result, stderr)."""

    def command(name, *words):
        code = main([*bench.words(name, *words), "--json"])
        said = capsys.readouterr()
        return code, json.loads(said.out) if said.out else None, said.err

    return command


def test_an_aligned_index_calls_what_the_other_did_not(bench, run, capsys):
    before = open_index(bench.out / "states").sha256
    code, result, error = run(
        "align", "--images", bench.base / "sorted", "--align", "zscore", "--no-unmatched", "--score"
    )
    assert code == 0, error
    assert result["accepted"] is True
    assert Path(result["folder"]) == bench.out / "states-sorted"
    whole = open_index(bench.out / "states-sorted")
    assert whole.sha256 == result["sha256"]
    assert {voter for entry in result["voters"] for voter in entry["encoders"]} <= set(ENCODERS)
    assert sum(entry["weight"] for entry in result["voters"]) == pytest.approx(1, abs=1e-3)
    assert result["target"]["cells"] == 240
    assert result["target"]["fit_cells"] + result["target"]["witnesses"] == 240
    for part in result["score"].values():
        assert part["aligned"] > part["unaligned"]
    assert open_index(bench.out / "states").sha256 == before
    assert main(["show", "states-sorted", "--out", str(bench.out)]) == 0
    assert "aligned from states" in capsys.readouterr().out


def test_what_the_folders_are_called_changes_nothing_but_the_score(bench, run):
    renamed = bench.out / "renamed"
    for name, state in zip(("live", "nonsense", "other"), sorted(STATES), strict=True):  # read in the same order
        shutil.copytree(bench.base / "sorted" / state, renamed / name)
    code, right, error = run("align", "--target", bench.base / "sorted", "--to", "right", "--force", "--score")
    assert code == 0, error
    code, wrong, error = run("align", "--target", renamed, "--to", "wrong", "--force", "--score")
    assert code == 0, error
    for key in ("kept", "dropped", "unmatched", "shares", "voters", "clusters", "accepted"):
        assert right[key] == wrong[key]
    assert right["score"] != wrong["score"]


def test_the_text_says_what_was_found(bench, capsys):
    assert (
        main(
            bench.words("align", "--images", bench.base / "flat", "--to", "told", "--align", "zscore", "--no-unmatched")
        )
        == 0
    )
    text = capsys.readouterr().out
    for words in ("index told", "accepted", "agreement", "share of the target", "voter", "kept out as witnesses"):
        assert words in text


@pytest.mark.parametrize("method", [name for name in METHODS if name != "auto"])
def test_every_map_can_be_asked_for(bench, run, method):
    code, result, error = run("align", "--images", bench.base / "flat", "--align", method, "--force")
    assert code == 0, error
    assert open_index(Path(result["folder"])).voters


def test_states_keep_every_class_and_look_at_those_present(bench, run):
    living = bench.out / "living"
    write_device(living, 300, only=("live",))
    # Halves of 60 cells need not agree by 90 %: what is kept is asked here, not whether the fit is to be trusted.
    states = ("--mode", "states", "--present", "live")
    code, result, error = run("align", "--images", living, *states, "--to", "day2", "--force")
    assert code == 0, error
    assert set(result["kept"]) == set(STATES)
    assert result["dropped"] == []
    assert result["mode"] == "states"


def test_further_cells_and_a_limit_are_taken(bench, run):
    third = write_device(bench.out / "third", 25, seed=9000)
    words = (
        "--images",
        bench.base / "flat",
        "--further",
        third,
        "--limit",
        90,
        "--witnesses",
        0.3,
        "--to",
        "more",
        "--force",
    )
    code, result, error = run("align", *words)
    assert code == 0, error
    assert result["target"]["cells"] == 90
    assert result["target"]["witnesses"] == 27


def test_labelled_data_sets_are_mapped_apart(bench, run):
    """Even and odd pictures as two data sets: both give references."""
    words = ("--images", bench.base / "flat", "--references-by", r"[02468](\.)png|[13579]\.(p)ng", "--to", "apart")
    code, result, error = run("align", *words, "--align", "zscore", "--no-filter", "--force")
    assert code == 0, error
    images = [cell.image for cell in reference_cells(open_index(Path(result["folder"])))]
    assert {int(Path(image).stem) % 2 for image in images if image != "target"} == {0, 1}
    assert len(result["told"]["references"]) == 2


def test_a_name_that_is_there_is_replaced_only_when_asked(bench, run):
    words = ("--images", bench.base / "flat", "--to", "twice", "--align", "zscore", "--force")
    assert run("align", *words)[0] == 0
    code, _, error = run("align", *words)
    assert code == 1
    assert "--replace" in error
    assert run("align", *words, "--replace")[0] == 0


def test_an_index_can_be_written_to_a_folder_elsewhere(bench, run, tmp_path):
    code, result, error = run("align", "--images", bench.base / "flat", "--to", tmp_path / "state" / "fit", "--force")
    assert code == 0, error
    assert Path(result["folder"]) == tmp_path / "state" / "fit"
    assert len(reference_cells(open_index(tmp_path / "state" / "fit"))) == len(open_index(tmp_path / "state" / "fit"))


def test_all_choices_stand_in_one_table(bench, run):
    words = ("--images", bench.base / "sorted", "--baselines", "1-NN", "--no-unmatched", "--align", "auto,none,zscore")
    code, result, error = run("evaluate", *words)
    assert code == 0, error
    assert list(result["choices"]) == ["unaligned", "1-NN", "align auto", "align none", "align zscore"]
    assert result["transductive"] is True
    for choice in result["choices"].values():
        low, high = choice["interval"]
        assert low <= choice["balanced_accuracy"] <= high
        assert set(choice["per_class"]) == set(STATES)
    plain, auto = result["choices"]["unaligned"], result["choices"]["align auto"]
    assert auto["balanced_accuracy"] > plain["balanced_accuracy"]
    assert set(auto["alignment"]["kept"]) | set(auto["alignment"]["dropped"]) >= set(STATES)


def test_held_out_cells_are_not_in_the_fit_and_classes_that_the_index_lacks_are_asked_for(bench, run):
    folder = write_device(bench.out / "four", 40)
    write_cells(bench.out / "spare", 30, seed=70)
    (bench.out / "spare" / "debris").rename(folder / "mitotic")
    words = ("--images", folder, "--baselines", "none", "--align", "zscore", "--held-out", 0.4)
    code, result, error = run("evaluate", *words)
    assert code == 0, error
    assert result["transductive"] is False
    assert result["fitted"] + result["scored"] + sum(result["foreign"].values()) == 150
    assert set(result["foreign"]) == {"mitotic"}
    assert 0 <= result["choices"]["align zscore"]["apart"]["mitotic"] <= 1


def test_the_table_is_told_in_words(bench, capsys):
    words = bench.words("evaluate", "--images", bench.base / "sorted", "--baselines", "none", "--align", "none")
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "transductive" in text
    assert re.search(r"align none +\d\.\d{3} +\d\.\d{3} to \d\.\d{3}", text)
    assert "recall by class:" in text
    assert "keeps" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--align", "psychic"), "none of auto"),
        (("--present", "live"), "--mode states"),
        (("--mode", "states", "--present", "zombie"), "the index has"),
        (("--mode", "states", "--no-filter"), "--mode types"),
        (("--graph-k", 1), "2 neighbours"),
        (("--alpha", 1.5), "no share from 0 to 1"),
        (("--limit", 0), "leaves no cell"),
        (("--limit", 5), "fewer than 20"),
        (("--to", "states"), "never changed in place"),
        (("--to", ".hidden"), "no name"),
        (("--wells", "A1"), "--store"),
        (("--references-by", "("), "no expression"),
        (("--references-by", "^lab"), "does not fit"),
        (("--image-root", "x"), "--coco"),
    ],
)
def test_what_contradicts_itself_is_refused_before_anything_is_written(bench, run, words, said):
    code, result, error = run("align", "--images", bench.base / "flat", *words)
    assert code == 2
    assert result is None
    assert said in error
    assert {path.name for path in bench.out.iterdir()} <= {"states", "c"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--folds", 3, "--align", "auto"), "elsewhere"),
        (("--folds", 3, "--mode", "states"), "without --align"),
        (("--folds", 3, "--held-out", 0.2), "without --align"),
        (("--align", "psychic"), "none of auto"),
        (("--align", ","), "names no method"),
    ],
)
def test_what_evaluate_cannot_align_is_refused(bench, run, words, said):
    given = () if "--folds" in words else ("--images", bench.base / "sorted")
    code, _, error = run("evaluate", *given, *words)
    assert code == 2
    assert said in error


@pytest.mark.parametrize("name", ["align", "evaluate"])
def test_help_shows_examples_that_parse(name, capsys):
    with pytest.raises(SystemExit):
        parser().parse_args([name, "--help"])
    examples = capsys.readouterr().out.split("examples:")[1].replace("\\\n", " ")
    lines = re.findall(r"^ +cellvigil-index (.*)$", examples, re.MULTILINE)
    assert len(lines) >= 3
    for line in lines:
        assert parser().parse_args(line.split()).command == name
