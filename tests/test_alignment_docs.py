"""docs/alignment.md: its commands run as they stand there, its limits are the code's."""

from __future__ import annotations

import contextlib
import re
import shlex
from pathlib import Path

import pytest

from aligned_fixtures import build_reference, flattened, write_device
from cellvigil.decide.voting import EXPERT_BELOW
from cellvigil_indexes.aligning.settings import METHODS
from cellvigil_indexes.aligning.sharing.matching import MatchSettings
from cellvigil_indexes.cli import main, parser
from cellvigil_indexes.unlabelled import FEWEST, WITNESSES

PAGE = Path(__file__).parents[1] / "docs" / "alignment.md"
TEXT = PAGE.read_text(encoding="utf-8")


def commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.strip()]


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Path:
    """What the page's commands presume: an index `blood`, encoders, cells of another microscope."""
    base = tmp_path_factory.mktemp("typed")
    with (base / "built.txt").open("w") as out, contextlib.redirect_stdout(out):
        build_reference(base, name="blood")
    flattened(write_device(base / "other_labelled", 80), base / "other_scope")
    write_device(base / "untreated", 300, only=("live",))
    return base


def test_its_commands_run(bench, monkeypatch, capsys):
    monkeypatch.chdir(bench)
    assert len(commands()) >= 6
    for line in commands():
        program, *words = shlex.split(line, comments=True)
        if program != "cellvigil-index":
            continue
        assert main(words) == 0, f"{line}: {capsys.readouterr().err}"


def test_its_figures_are_the_codes():
    assert f"fewer than {FEWEST} cells" in TEXT
    assert pytest.approx(1) == WITNESSES * 5
    assert "A fifth of the cells (`--witnesses`)" in TEXT
    assert f"p of at least {MatchSettings().least_probability:g}" in TEXT
    assert pytest.approx(2) == EXPERT_BELOW * 3
    assert "below two thirds" in TEXT


def test_it_names_every_option_and_every_map():
    with pytest.raises(SystemExit):
        parser().parse_args(["align", "--help"])
    assert all(f"`{name}`" in TEXT for name in METHODS if name != "auto")
    for option in ("--mode", "--present", "--no-filter", "--further", "--witnesses", "--score", "--force", "--rows"):
        assert option in TEXT


def test_it_stays_short_enough_to_be_read():
    assert len(TEXT.splitlines()) < 150
