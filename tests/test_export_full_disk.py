"""A disk that fills up while torch's exporter writes: told, and nothing left. Needs the extra `export`."""

import contextlib
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cellvigil.errors import BundleError
from cellvigil_export.make import export
from cellvigil_export.segmenter_make import export_segmenter

pytest.importorskip("torch", reason="needs the extra `export`")
pytest.importorskip("transformers", reason="needs the extra `export`")
import sam_networks as networks
from test_export_sam import TINY as FEATURES
from test_export_segmenter import TINY as SEGMENTER

pytestmark = pytest.mark.export


@contextlib.contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """What is written beyond `size` bytes of a file fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(("make", "what"), [(export, FEATURES), (export_segmenter, SEGMENTER)], ids=["encoder", "both"])
def test_a_full_disk_is_told_and_nothing_is_left(tmp_path: Path, make: Callable[..., Any], what: Any) -> None:
    weights, out = networks.file(tmp_path / "sam.pth", networks.network()), tmp_path / "out"
    with pytest.raises(BundleError, match="the export was not written: ") as caught, files_of_at_most(100_000):
        make(what, weights=weights, out=out)
    assert str(out) in str(caught.value)
    assert list(out.iterdir()) == []
