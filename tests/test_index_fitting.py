"""Encoders and cells of one index look at the same picture of a cell."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cellvigil.bundle.encoder import open_encoder
from cellvigil.bundle.index import open_index
from cellvigil.data import ClaheRule, Fit, ImageRule
from cellvigil.errors import UsageError
from cellvigil_indexes.changing import with_cells
from cellvigil_indexes.draft import draft_of
from cellvigil_indexes.inputs.fitting import check_encoders_fit, scale_warnings
from cellvigil_indexes.writing import write_index
from index_fixtures import write_plain_index


@pytest.fixture
def bundle(lite0):
    return open_encoder(lite0)


def test_encoders_of_other_sizes_and_published_crops_go_together(bundle):
    other = replace(bundle, name="other", fit=Fit(518, "bicubic", shortest=592))
    check_encoders_fit(ImageRule(colour="rgb"), [bundle, other])


@pytest.mark.parametrize(
    ("change", "colour", "told"),
    [
        ({"channels": 1}, "rgb", "takes 1 channel"),
        ({"input": {"colour": "BGR"}}, "grey", "takes BGR"),
        ({"name": "efficientnet-lite0"}, "grey", "named twice"),
    ],
)
def test_encoders_that_cannot_look_at_the_rules_pictures(bundle, change, colour, told):
    change = {"name": "other", **change}
    content = dict(bundle.manifest)
    if "input" in change:
        content |= {"input": {**content["input"], **change.pop("input")}}
    other = replace(bundle, manifest=content, **change)
    with pytest.raises(UsageError, match=told):
        check_encoders_fit(ImageRule(colour=colour), [bundle, other])


@pytest.mark.parametrize(
    ("crop_um", "channels", "mean", "warned"),
    [
        (28.0, 5, [], True),  # 56 px, resized to 128
        (70.0, 5, [], False),  # 140 px
        (64.0, 5, [], False),  # 128 px: as they are
        (71.0, 5, [], True),  # 142 px
        (28.0, 5, [0.5] * 5, False),  # normalised as a photograph is, and fitted as one
        (28.0, 3, [], False),
    ],
)
def test_a_crop_of_another_scale_than_a_multi_channel_encoder_was_shown_is_told(
    bundle, crop_um, channels, mean, warned
):
    rule = ImageRule(pixel_size_um=0.5, crop_um=crop_um, colour="channels", channels=("a", "b", "c", "d", "e"))
    content = {**bundle.manifest, "preprocessing": {**bundle.manifest["preprocessing"], "mean": mean}}
    other = replace(bundle, name="cp", fit=Fit(128), channels=channels, manifest=content)
    told = scale_warnings(rule, [bundle, other])
    assert [text for text in told if "cp" in text and "128 px" in text and "--crop-um 64 " in text] == told
    assert bool(told) == warned
    assert scale_warnings(replace(rule, frame_normalised=False), [bundle, other]) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"crop_um": 30.0}, r"crop_um 30\.0 \(index: 20\.0\)"),
        ({"mask": True, "clahe": ClaheRule()}, r"clahe .*, mask True \(index: False\)"),
    ],
)
def test_cells_of_another_crop_rule_do_not_get_into_an_index(tmp_path, change, told):
    draft = draft_of(open_index(write_plain_index(tmp_path / "plain")))
    other = replace(draft.image_rule, **change)
    rows = draft.collected.rows(np.arange(3))
    with pytest.raises(UsageError, match=told):
        with_cells(draft, replace(rows, image_rule=other), None, {})
    with pytest.raises(UsageError, match=told):
        write_index(tmp_path / "new", replace(draft, collected=replace(draft.collected, image_rule=other)))
    assert len(with_cells(draft, replace(rows, image_rule=draft.image_rule), None, {}).collected) == 23
    assert not (tmp_path / "new").exists()
