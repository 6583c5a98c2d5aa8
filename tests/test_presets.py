"""The published settings, against the paper's own sentences."""

from __future__ import annotations

import pytest

from cellvigil.errors import UsageError
from cellvigil_indexes.cli import parser
from cellvigil_indexes.commands.build import encoders_of, index_settings
from cellvigil_indexes.presets import PRESETS

PUBLISHED = [  # Frontiers in Oncology 2025, section 2.4.1
    ("wbc", "SAM CONVNEXT SWIN CLIP", 3, 1000, 0.3, "l2", True),
    ("wbc-to-lisc", "DINO CONVNEXT SWIN VITMAE", 3, 1000, 0.3, "l2", True),
    ("cell-death-nanolive", "SAM CONVNEXT SWIN CLIP VITMAE", 3, 100, 0.6, "canberra", True),
    ("cell-death-to-lionheart", "SAM DINO SWIN", 10, 1000, 0.1, "l2", True),
    ("cell-type-lionheart", "SAM DINO CONVNEXT CLIP", 20, 1000, 0.2, "l2", True),
    ("pbmc-mixtures", "SAM DINO CONVNEXT SWIN CLIP", 33, 1000, 0.2, "l2", False),
]
CHECKPOINTS = {  # section 2.2
    "DINO": "dinov2-giant",
    "CONVNEXT": "convnextv2-large",
    "SWIN": "swinv2-large",
    "CLIP": "clip-vit-large",
    "VITMAE": "vit-mae-huge",
    "SAM": "sam-vit-huge",
}


def asked(*words):
    return parser().parse_args(["build", "x", "--images", "cells", *words])


@pytest.mark.parametrize(("name", "encoders", "k_min", "k_max", "threshold", "metric", "reweight"), PUBLISHED)
def test_a_preset_is_what_was_published(name, encoders, k_min, k_max, threshold, metric, reweight):
    settings = index_settings(asked("--preset", name))
    assert (settings.k_min, settings.k_max, settings.threshold) == (k_min, k_max, threshold)
    assert (settings.metric, settings.reweight, settings.scaling) == (metric, reweight, "none")
    assert encoders_of(asked("--preset", name)) == [CHECKPOINTS[each] for each in encoders.split()]


def test_when_in_doubt_it_is_the_three_that_did_well_everywhere():
    assert encoders_of(asked("--preset", "in-doubt")) == [CHECKPOINTS[e] for e in ("DINO", "CONVNEXT", "SWIN")]


def test_what_is_said_beats_the_preset():
    args = asked("--preset", "pbmc-mixtures", "--k-max", "50", "--metric", "canberra", "--encoder", "mine")
    settings = index_settings(args)
    assert (settings.k_min, settings.k_max, settings.metric, settings.reweight) == (33, 50, "canberra", False)
    assert encoders_of(args) == ["mine"]


def test_without_encoder_and_preset_it_asks():
    with pytest.raises(UsageError, match="which encoder"):
        encoders_of(asked())


@pytest.mark.parametrize("words", [("--k-min", "1"), ("--k-min", "50", "--k-max", "20"), ("--threshold", "1.5")])
def test_settings_that_contradict_are_refused(words):
    with pytest.raises(UsageError):
        index_settings(asked("--encoder", "x", *words))


def test_every_preset_has_its_table():
    assert {row[0] for row in PUBLISHED} | {"in-doubt"} == set(PRESETS)
