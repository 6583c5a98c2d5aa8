"""Fixtures that several test files share."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from encoder_fixtures import lite0_bundle
from lab import Lab, build_index


@pytest.fixture(scope="session")
def lite0(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the exported default encoder; read-only by agreement."""
    return lite0_bundle(tmp_path_factory)


@pytest.fixture(scope="session")
def state_indexes(lite0: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of indexes with one called `states`; read-only by agreement."""
    return build_index(tmp_path_factory.mktemp("indexes"), lite0)


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
