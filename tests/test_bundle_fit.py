"""How an encoder's manifest says that a picture is fitted to it, and what that does to the encoder's identity."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from cellvigil.bundle.encoder import MODEL, encoder_sha256, open_encoder
from cellvigil.bundle.files import MANIFEST, bundle_sha256
from cellvigil.bundle.fit import fit_of
from cellvigil.data import Fit
from cellvigil.encoder import open_session
from cellvigil.errors import BundleError
from encoder_fixtures import rewritten

PUBLISHED = Fit(224, "bicubic", shortest=256)


@pytest.fixture
def bundle(lite0: Path, tmp_path: Path) -> Path:
    """A copy of the default encoder's bundle, to be changed."""
    return Path(shutil.copytree(lite0, tmp_path / "bundle"))


def content(folder: Path, **outside: object) -> dict[str, Any]:
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    if outside:
        manifest["preprocessing"]["outside_the_graph"] = outside
    return dict(manifest)


def former_sha256(manifest: Mapping[str, Any]) -> str:
    """An encoder's identity as it was hashed before encoders had fits: indexes name it."""
    keys = ("name", "precision", "input", "input_size", "channels", "dimension")
    files = {name: entry for name, entry in manifest["files"].items() if name.startswith(MODEL)}
    return bundle_sha256({**{key: manifest[key] for key in keys}, "files": files})


def test_what_is_exported_says_how_its_pictures_are_fitted(lite0: Path) -> None:
    assert content(lite0)["preprocessing"]["outside_the_graph"] == {"side": 224, "resample": "area", "shortest": 0}
    assert open_encoder(lite0).fit == Fit(224)


@pytest.mark.parametrize("said", ["to 224x224", "shortest side 256 bicubic, centre crop 224"])
def test_a_bundle_from_before_is_fitted_as_it_was(bundle: Path, said: str) -> None:
    preprocessing = {**content(bundle)["preprocessing"], "outside_the_graph": {"resize": said}}
    rewritten(bundle, preprocessing=preprocessing)
    assert open_encoder(bundle).fit == Fit(224)


def test_a_plain_fit_leaves_the_identity_as_it_was(lite0: Path) -> None:
    plain, former = content(lite0, **asdict(Fit(224))), content(lite0, resize="to 224x224")
    assert encoder_sha256(plain) == encoder_sha256(former) == former_sha256(former) == open_encoder(lite0).sha256


def test_each_other_fit_is_another_encoder(lite0: Path) -> None:
    fits = (Fit(224), PUBLISHED, Fit(224, "bicubic"), Fit(224, "bilinear"), Fit(224, "area", shortest=256))
    assert len({encoder_sha256(content(lite0, **asdict(fit))) for fit in fits}) == len(fits)


def test_an_encoder_brings_its_fit(bundle: Path) -> None:
    preprocessing = {**content(bundle)["preprocessing"], "outside_the_graph": asdict(PUBLISHED)}
    rewritten(bundle, preprocessing=preprocessing)
    encoder = open_session(open_encoder(bundle), device="cpu")
    assert (encoder.bundle.fit, encoder.input_size) == (PUBLISHED, 224)


@pytest.mark.parametrize(
    ("outside", "told"),
    [
        ({"side": 224, "resample": "lanczos", "shortest": 0}, "area, bilinear, bicubic, not 'lanczos'"),
        ({"side": 192, "resample": "area", "shortest": 0}, "fitted to 192 pixels, the model takes 224"),
        ({"side": "224"}, "fitted to '224' pixels, the model takes 224"),
        ({"side": 224, "resample": "bicubic", "shortest": 200}, "200 pixels has no centre of 224"),
        ({"side": 224, "resample": "bicubic", "shortest": True}, "True pixels has no centre of 224"),
        ({"side": 224, "resample": "bicubic", "shortest": 255.5}, "255.5 pixels has no centre of 224"),
        ({"resample": "bicubic"}, "incomplete"),
        ({"resize": "to 224x224", "stain": "normalised"}, "wants resize, stain outside of its graph"),
        ({"side": 224, "stain": "normalised"}, "wants stain outside of its graph"),
        ("to 224x224", "outside_the_graph is 'to 224x224'"),
    ],
)
def test_what_is_no_fit_is_refused(bundle: Path, outside: object, told: str) -> None:
    preprocessing = {**content(bundle)["preprocessing"], "outside_the_graph": outside}
    rewritten(bundle, preprocessing=preprocessing)
    with pytest.raises(BundleError, match=told) as caught:
        open_encoder(bundle)
    assert MANIFEST in str(caught.value)


def test_a_manifest_without_preprocessing_is_plain() -> None:
    assert fit_of({"input_size": 64}) == Fit(64)
