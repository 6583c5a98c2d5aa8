"""Which licences allow commercial use, and that `encoder.licence_use: commercial` refuses all others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cellvigil.bundle.encoder import open_encoder
from cellvigil.bundle.licences import COMMERCIAL, check_use, licences_of, not_commercial, told_licences
from cellvigil.cli import main
from cellvigil.errors import BundleError
from cellvigil.service.opening import open_bundles
from cellvigil_indexes.cli import main as index_command
from encoder_fixtures import rewritten
from lab import Lab


def bundle(upstream=None, weights=None):
    return {"licences": {"upstream": upstream, "weights": weights}}


@pytest.mark.parametrize(
    ("manifest", "why"),
    [
        (bundle("Apache-2.0", "Apache-2.0"), ""),
        (bundle("mit", "apache-2.0"), ""),  # SPDX names are the same in any case
        (bundle("NOASSERTION", "MIT"), "the licence upstream is not known"),  # mobilenetv2
        (bundle("MIT", "CC-BY-NC-4.0"), "the licence of its weights is CC-BY-NC-4.0, which is not one of those"),
        (bundle("CC-BY-NC-4.0", "Apache-2.0"), "the licence upstream is CC-BY-NC-4.0"),  # the hub says otherwise
        (bundle("LicenseRef-FAIR-Noncommercial-Research", "MIT"), "upstream is LicenseRef-FAIR"),
        (bundle("Apache-2.0", "a licence of our own"), "of its weights is a licence of our own"),
        (bundle("GPL-3.0-only", "GPL-3.0-only"), "upstream is GPL-3.0-only.* and the licence of its weights is GPL"),
        (bundle("MIT", ""), "of its weights is not known"),
        ({"licences": "MIT"}, "upstream is not known and the licence of its weights is not known"),
        ({}, "upstream is not known and the licence of its weights is not known"),
    ],
)
def test_what_may_be_used_commercially(manifest, why, tmp_path):
    check_use("encoder x", manifest, "research", where=tmp_path)
    assert (why == "") == (not_commercial(manifest) == "")
    assert ("no commercial use" in told_licences(manifest)) == bool(why)
    if why:
        with pytest.raises(BundleError, match=f"encoder x must not be used commercially: .*{why}") as refused:
            check_use("encoder x", manifest, "commercial", where=tmp_path)
        assert str(tmp_path) in str(refused.value)
        assert "encoder.licence_use: research" in str(refused.value)
    else:
        check_use("encoder x", manifest, "commercial", where=tmp_path)


def test_none_of_the_names_that_allow_it_forbids_it():
    assert len({name.casefold() for name in COMMERCIAL}) == len(COMMERCIAL)
    assert not [name for name in COMMERCIAL if "NC" in name.split("-") or "ND" in name.split("-")]


def test_every_encoder_of_the_zoo_says_both_licences():
    from cellvigil_export.zoo import ENCODERS  # noqa: PLC0415 - the exporters are no part of what is tested else

    told = {name: licences_of({"licences": vars_of(one)}) for name, one in ENCODERS.items()}
    assert all(names["upstream"] and names["weights"] for names in told.values())
    allowed = {name for name, names in told.items() if not not_commercial({"licences": names})}
    assert {"efficientnet-lite0", "dinov2-small"} <= allowed
    assert not {name for name in allowed if name.startswith(("convnextv2", "vit-mae", "cell-dino", "mobilenetv2"))}


def vars_of(declared):
    return {"upstream": declared.licences.upstream, "weights": declared.licences.weights}


@pytest.fixture
def encoders(lite0: Path, tmp_path: Path) -> Path:
    """The default encoder with weights that nobody may use commercially: another licence makes no other encoder."""
    folder = tmp_path / "encoders" / lite0.name
    shutil.copytree(lite0, folder)
    rewritten(folder, licences={"upstream": "Apache-2.0", "weights": "CC-BY-NC-4.0"})
    assert open_encoder(folder).sha256 == open_encoder(lite0).sha256
    return folder.parent


def test_the_service_does_not_open_what_may_not_be_used(lab: Lab, encoders):
    open_bundles(lab.config(encoder={"path": str(lab.encoders), "licence_use": "commercial"}))
    open_bundles(lab.config(encoder={"path": str(encoders)}))
    with pytest.raises(BundleError, match=r"encoder efficientnet-lite0 must not .*CC-BY-NC-4\.0"):
        open_bundles(lab.config(encoder={"path": str(encoders), "licence_use": "commercial"}))


def test_check_tells_the_licences_and_fails_where_the_service_would(lab: Lab, encoders, capsys):
    def found(**encoder):
        code = main(["check", "--config", str(lab.config_file(encoder=encoder)), "--json"])
        return code, {(each["level"], each["text"]) for each in json.loads(capsys.readouterr().out)}

    _, told = found(path=str(encoders))
    assert any("licences: upstream Apache-2.0, weights CC-BY-NC-4.0 (no commercial use)" in text for _, text in told)
    code, told = found(path=str(encoders), licence_use="commercial")
    assert code == 1
    assert any(level == "fail" and "must not be used commercially" in text for level, text in told)


def test_an_index_tells_which_of_its_encoders_are_not_for_commercial_use(lab: Lab, encoders, tmp_path, capsys):
    reference = lab.indexes / "reference" / "annotations.coco.json"
    common = ["--coco", str(reference), "--encoder", "efficientnet-lite0", "--out", str(tmp_path / "i")]
    assert index_command(["build", "mine", *common, "--encoders", str(encoders), "--crop-um", "28"]) == 0
    capsys.readouterr()
    assert index_command(["show", "mine", "--out", str(tmp_path / "i")]) == 0
    told = capsys.readouterr().out
    assert "not for commercial use: efficientnet-lite0 (Apache-2.0, CC-BY-NC-4.0)" in told
    assert index_command(["show", "states", "--out", str(lab.indexes)]) == 0
    assert "commercial" not in capsys.readouterr().out
