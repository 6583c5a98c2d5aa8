"""Models of a running service: frames take turns at SAM, and nobody exchanges a model behind the service's back."""

import itertools
import shutil
import threading
import time

import numpy as np
import pytest

from cellvigil import config
from cellvigil.bundle.files import MANIFEST
from cellvigil.bundle.segmenter import open_segmenter
from cellvigil.config import Segment
from cellvigil.errors import DeviceError
from cellvigil.segment.sam_session import open_sam
from cellvigil.service import enduring
from cellvigil.service.lasting_sam import LastingSam
from cellvigil.service.opening import Kitchen, open_bundles, open_kitchen
from cellvigil.service.segmenting import found_by
from encoder_fixtures import rewritten
from lab import Lab
from segmenter_fixtures import SIDE, segmenter_bundle


def test_frames_are_outlined_one_after_the_other(tmp_path):
    """And not all at once, each a little: the first is done long before the last."""
    opened = open_segmenter(segmenter_bundle(tmp_path))
    sam = LastingSam(
        open_sam(opened, device="cpu", threads=1),
        lambda on: pytest.fail("opened again"),
        may_degrade=False,
        told=lambda *_: None,
        wait=lambda _: None,
    )
    order, real = [], sam.encode

    def encode(*given):
        order.append(threading.get_ident())
        time.sleep(0.01)  # the others have the time to push in
        return real(*given)

    sam.encode = encode
    settings = Segment(cell_diameter_um=3.0, method="sam", sam=config.Sam(bundle="toy-sam", prompts="grid"))
    segmenter = found_by(settings, sam).segmenter
    image = np.random.default_rng(3).integers(0, 256, (2 * SIDE, 2 * SIDE), dtype=np.uint8)
    threads = [threading.Thread(target=segmenter, args=(image, 0.322)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(order) >= 2 * len(threads)  # tiles
    assert sum(one != other for one, other in itertools.pairwise(order)) == len(threads) - 1


@pytest.fixture
def kitchen(lab: Lab, tmp_path, monkeypatch) -> Kitchen:
    """An encoder and a segmenter as a service has them, of bundles that a test may spoil."""
    monkeypatch.setattr(enduring, "_BACKOFF_S", (0.0, 0.0))
    encoders = tmp_path / "encoders"
    for folder in lab.encoders.iterdir():
        if (folder / MANIFEST).is_file():
            shutil.copytree(folder, encoders / folder.name)
    segmenter_bundle(encoders)
    settings = lab.config(
        encoder={"path": str(encoders), "device": "cpu"}, segment={"method": "sam", "sam": {"bundle": "toy-sam"}}
    )
    return open_kitchen(settings, open_bundles(settings), wait=lambda _: None)


def test_a_bundle_that_was_replaced_is_not_taken_for_the_one_that_runs(kitchen):
    """`cellvigil-export run --force` beside the service: other weights must not go on under the same name."""
    assert len(kitchen.models) == 2
    for model in kitchen.models:
        model.recover(DeviceError("it failed"))
        model.opened()  # the same bundle: a fresh session
    for model in kitchen.models:
        rewritten(model.bundle.folder, precision="fp16")
        failing = iter([DeviceError("it failed")])

        def work(_running, failing=failing):
            for error in failing:
                raise error
            pytest.fail("another bundle was run")

        with pytest.raises(DeviceError, match=f"{model.name} was replaced while the service runs"):
            model.endured(work)
