"""Fixtures that several test files share; what takes long to make is made once for all of pytest-xdist's workers."""

import fcntl
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from encoder_fixtures import lite0_bundle
from lab import Lab, build_index

# No test asserts a time, also not by default: a loaded machine is slow.
settings.register_profile("cellvigil", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("cellvigil")


def once_for_all(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Path]) -> Path:
    """What `make` makes in a folder that it is given; the first worker to ask makes it, the others wait for it."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    made = root / f"{name}.made"
    with (root / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=root))  # afresh should an earlier try have failed
            made.write_text(str(make(folder)), encoding="utf-8")
    return Path(made.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def lite0(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the exported default encoder; read-only by agreement."""
    return once_for_all(tmp_path_factory, "encoders", lite0_bundle)


@pytest.fixture(scope="session")
def state_indexes(lite0: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of indexes with one called `states`; read-only by agreement."""
    return once_for_all(tmp_path_factory, "indexes", lambda folder: build_index(folder, lite0))


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """SIGINT does what it does at a terminal, also where a shell that runs the tests in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def lab(tmp_path: Path, state_indexes: Path, lite0: Path) -> Lab:
    """An empty lab: a watched folder, and everything that a service needs."""
    (tmp_path / "images").mkdir()
    return Lab(tmp_path, state_indexes, lite0.parent)


@pytest.fixture(scope="session")
def real_images() -> Path:
    """The folder of real microscope images; the test is skipped where it is absent."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("CELLVIGIL_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real images: {folder} is not there (set CELLVIGIL_TEST_DATA)")
    return folder


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where the system has one: hundreds of stores are made here, and real fsyncs take time."""
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        yield Path(folder)
