"""The README's own commands, run as it gives them, in a folder of their own."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    """Every shell line of the README; continued lines joined."""
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", README, flags=re.MULTILINE | re.DOTALL)
    joined = "\n".join(blocks).replace("\\\n", " ")
    return [" ".join(line.split()) for line in joined.splitlines() if line.strip()]


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """A folder in which the README's commands are typed: the user's own configuration is the one thing it presumes."""
    text = (ROOT / "config.yaml").read_text(encoding="utf-8")
    text = text.replace("path: incoming", "path: rehearsal/images").replace("Europe/Berlin", "UTC")
    text = text.replace("scan_interval_s: 2.0", "scan_interval_s: 0.2").replace("port: 9108", "port: 0")
    (tmp_path / "my.yaml").write_text(text, encoding="utf-8")
    return tmp_path


def test_the_readme_is_short():
    assert len(README.splitlines()) < 100
    assert len((ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").splitlines()) < 150


def test_every_command_of_the_readme_works_in_its_order(bench: Path):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    tried = []
    for command in commands():
        if command.startswith(("make ", "pip ")):
            continue  # they set up what this test already runs in
        done = subprocess.run(
            command,
            shell=True,
            cwd=bench,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        tried.append(command.split()[0])
    assert set(tried) == {"cellvigil", "cellvigil-export", "cellvigil-index"}
    assert (bench / "cells.parquet").stat().st_size > 0


def test_every_make_target_that_is_named_is_there():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    text = README + (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8") + (ROOT / ".ci" / "run").read_text()
    for target in re.findall(r"\bmake ([a-z][a-z-]+)", text):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), f"make {target}"


@pytest.mark.parametrize(
    "command",
    ["run", "once", "check", "quarantine", "event", "repair", "rehearse", "demo", "table", "classify", "install"],
)
def test_every_command_has_help_with_an_example(command: str):
    shown = subprocess.run(
        [sys.executable, "-m", "cellvigil", command, "--help"], capture_output=True, text=True, check=True
    )
    assert "example: cellvigil" in shown.stdout


def test_the_wheel_holds_the_three_packages_and_nothing_else(tmp_path: Path):
    pytest.importorskip("hatchling", reason="the build backend is not installed")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)], cwd=ROOT, check=True
    )
    [wheel] = tmp_path.glob("*.whl")
    shutil.unpack_archive(wheel, tmp_path / "out", "zip")
    names = {path.name for path in (tmp_path / "out").iterdir() if not path.name.endswith(".dist-info")}
    assert names == {"cellvigil", "cellvigil_export", "cellvigil_indexes"}
