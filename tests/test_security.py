"""What must never stand in the code, and what a deployment installs: pinned, with hashes, from wherever it likes."""

from __future__ import annotations

import ast
import re
import tempfile
import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cellvigil.data import FrameKey
from cellvigil.store.names import row_and_column, segment
from cellvigil.store.reader import read_ledger
from cellvigil.store.writer import open_store
from store_records import record

ROOT = Path(__file__).parents[1]
CODE = [path for part in ("daemon", "export", "indexes") for path in sorted((ROOT / part).rglob("*.py"))]
FORBIDDEN_CALLS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "os.startfile", "yaml.load", "yaml.load_all",
    "yaml.unsafe_load", "yaml.full_load", "pickle.load", "pickle.loads", "marshal.loads", "shelve.open", "dill.load",
    "subprocess.getoutput", "subprocess.getstatusoutput", "tempfile.mktemp", "pandas.read_pickle", "joblib.load",
}  # fmt: skip
SCREENED = {
    "export/cellvigil_export/checkpoint.py": "names the error that torch's safe loader raises",
    "export/cellvigil_export/legacy_pth.py": "its unpickler knows tensors only, and every operation is screened before",
}
FORBIDDEN_MODULES = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
RUNTIME = ROOT / "daemon" / "cellvigil"
DEMO = RUNTIME / "demo"


def dotted(node: ast.expr) -> str:
    """The name that is called, as written: "os.system"."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def found_in(tree: ast.AST) -> list[str]:
    """What a module does that none may do."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.partition(".")[0] in FORBIDDEN_MODULES]
        elif isinstance(node, ast.ImportFrom):
            found += [node.module] if (node.module or "").partition(".")[0] in FORBIDDEN_MODULES else []
        elif isinstance(node, ast.Call):
            name, keywords = dotted(node.func), {word.arg: word.value for word in node.keywords}
            if name in FORBIDDEN_CALLS:
                found.append(name)
            for word, wanted in (("shell", False), ("allow_pickle", False), ("weights_only", True)):
                value = keywords.get(word)
                if value is not None and not (isinstance(value, ast.Constant) and value.value is wanted):
                    found.append(f"{name}({word}=...)")
            if name == "torch.load" and "weights_only" not in keywords:
                found.append("torch.load without weights_only")
    return found


@pytest.mark.parametrize("path", CODE, ids=[str(path.relative_to(ROOT)) for path in CODE])
def test_no_code_runs_what_it_was_given(path: Path) -> None:
    found = found_in(ast.parse(path.read_text(encoding="utf-8")))
    if str(path.relative_to(ROOT)) in SCREENED:
        found = [what for what in found if what != "pickle"]
    assert found == []


@pytest.mark.parametrize(
    "text",
    [
        "import pickle", "from pickle import loads", "eval('1')", "yaml.load(x)", "subprocess.run('ls', shell=True)",
        "np.load(x, allow_pickle=True)", "os.system('ls')", "torch.load(x)", "torch.load(x, weights_only=False)",
    ],
)  # fmt: skip
def test_the_search_finds_what_it_is_for(text: str) -> None:
    assert found_in(ast.parse(text))


def test_only_the_demo_the_installer_a_fit_and_the_bench_start_processes() -> None:
    users = [path for path in RUNTIME.rglob("*.py") if "import subprocess" in path.read_text(encoding="utf-8")]
    fit, bench = RUNTIME / "service" / "fitting.py", RUNTIME / "bench" / "machine.py"
    assert all({DEMO, RUNTIME / "install"} & {*path.parents} for path in users if path not in {fit, bench}), users
    assert '[sys.executable, "-m", "cellvigil.service.lowly"' in fit.read_text(encoding="utf-8")  # that, no shell


def test_nothing_listens_but_the_page() -> None:
    words = ("socketserver", "http.server", "wsgiref.simple_server", ".listen(")
    users = {path.name for path in RUNTIME.rglob("*.py") if any(w in path.read_text(encoding="utf-8") for w in words)}
    assert users == {"page.py"}


@pytest.mark.parametrize(
    "name", ["..", "../../etc", "/etc/passwd", "a\0b", "CON", "", "~root", "a/../../b", "\u202e", "x" * 999]
)
def test_no_name_leaves_the_store(tmp_path: Path, name: str) -> None:
    store = tmp_path / "store"
    for path in (store / segment(name), store / row_and_column(name)[0] / row_and_column(name)[1]):
        assert path.resolve().is_relative_to(store)
        assert path.resolve() != store


ANY = st.text(max_size=40) | st.sampled_from(
    ["..", ".", "/", "../..", "a/../../b", "\0", "CON", ".zgroup", "~-", "\udce9"]
)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(ANY, ANY, ANY, ANY)
def test_a_frame_of_any_name_is_written_inside_the_store_and_read_back(
    tmp_path: Path, experiment: str, plate: str, well: str, field: str
) -> None:
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    at = FrameKey("scope", experiment, plate, well, field, 0)
    store = open_store(folder / "below" / "store")
    try:
        store.append(record(at, n=1, shape=(1, 12, 18)))
    finally:
        store.close()
    assert [path.name for path in folder.iterdir()] == ["below"]
    assert [path.name for path in (folder / "below").iterdir()] == ["store"]
    [series] = read_ledger(folder / "below" / "store").series()
    assert series == at.series


def locked(name: str) -> dict[str, list[str]]:
    """The pins of a lock file: package to its hashes."""
    pins: dict[str, list[str]] = {}
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        if match := re.match(r"([a-z0-9][a-z0-9._-]*)(?:\[[^\]]*\])?==(\S+)", line):
            pins[match[1]] = []
        if match := re.search(r"--hash=(sha256:[0-9a-f]{64})", line):
            pins[list(pins)[-1]].append(match[1])
    return pins


def wanted(extra: str) -> set[str]:
    """The packages that pyproject asks for, normalised."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = project["dependencies"] + project["optional-dependencies"][extra]
    return {re.sub(r"[-_.]+", "-", re.match(r"[A-Za-z0-9._-]+", line)[0]).lower() for line in lines}


@pytest.mark.parametrize(("name", "extra"), [("requirements.lock", "cpu"), ("requirements-gpu.lock", "gpu")])
def test_every_dependency_is_pinned_with_its_hashes(name: str, extra: str) -> None:
    pins = locked(name)
    assert wanted(extra) <= pins.keys(), "run `make lock`"
    assert all(pins.values())


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-gpu.lock"])
def test_a_lock_names_no_place_and_nothing_unpinned(name: str) -> None:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if "://" in line or line.startswith(("-", "/", "."))]
    loose = [line for line in lines if line and not line.startswith((" ", "#")) and "==" not in line]
    assert loose == []
