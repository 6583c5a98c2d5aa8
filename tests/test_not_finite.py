"""A picture of which a model makes no numbers costs its own frame and no other, and the service goes on.

The fault lies in the session: whatever batch holds that one picture comes out as NaN, every time; the golden pair does
not, so that the device cannot be blamed.
"""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from cellvigil import device
from cellvigil.bundle.files import MANIFEST
from cellvigil.service import serve
from lab import Lab
from segmenter_fixtures import segmenter_bundle


class Cursed:
    """A real session that makes NaN of whatever holds a picture of that digest, and notes every picture it sees."""

    def __init__(self, real, seen, digest):
        self._real, self._seen, self._digest = real, seen, digest

    def run(self, outputs, inputs):
        [block] = [inputs[name] for name in ("pixels", "image") if name in inputs] or [()]
        digests = [hashlib.sha256(picture.tobytes()).hexdigest() for picture in block]
        self._seen.extend(digests)
        made = self._real.run(outputs, inputs)
        return [np.full_like(one, np.nan) for one in made] if self._digest in digests else made

    def __getattr__(self, name):
        return getattr(self._real, name)


@pytest.fixture
def both(lab: Lab, tmp_path):
    """A lab whose encoders' folder holds a small segmenter too."""
    encoders = tmp_path / "encoders"
    encoders.mkdir()
    for folder in lab.encoders.iterdir():
        if (folder / MANIFEST).is_file():
            (encoders / folder.name).symlink_to(folder)
    made = segmenter_bundle(tmp_path / "toy")
    (encoders / "toy-sam").symlink_to(made)
    return replace(lab, encoders=encoders)


def pictures_seen(lab, monkeypatch, kind, digest="", **changes):
    """Run the service over what is there, that picture cursed: the digests of the pictures that `kind` was shown."""
    seen, real = [], device._session

    def session(ort, path, *rest):
        made = real(ort, path, *rest)
        return Cursed(made, seen, digest) if kind in str(path.resolve()) else made

    with monkeypatch.context() as patch:
        patch.setattr(device, "_session", session)
        serve.once(lab.config(**changes))
    return seen


@pytest.mark.parametrize(
    ("kind", "which", "changes"),
    [
        ("efficientnet-lite0", -1, {}),
        ("toy-sam", -1, {"segment": {"method": "sam", "sam": {"bundle": "toy-sam"}}}),
        ("toy-sam", 1, {"segment": {"method": "sam", "sam": {"bundle": "toy-sam"}}}),  # 0 is golden: the first frame
    ],
)
def test_it_costs_that_frame_alone(both, tmp_path, monkeypatch, kind, which, changes):
    frames = both.film(timepoints=3)
    twin = replace(both, root=tmp_path / "twin")
    twin.root.mkdir()
    (twin.root / "images").symlink_to(both.images)
    cursed = pictures_seen(twin, monkeypatch, kind, **changes)[which]
    shown = pictures_seen(both, monkeypatch, kind, digest=cursed, **changes)
    assert shown.count(cursed) <= 4  # asked for again, and then given up
    assert list(both.quarantined().values()) == ["no_numbers"]
    ledger = both.ledger()
    assert sum(len(ledger.frames(series)) for series in ledger.series()) == frames - 1
