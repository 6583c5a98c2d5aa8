"""An encoder bundle as an image rule uses it: whether it fits, what it is then, how long its vectors are.

Fluorescence has channels, and encoders of photographs take red, green and blue. Either each channel is looked at by
itself, replicated, and the vectors are put one behind the other (Cell-DINO, PLOS 2025, how its DINOv2 baseline was
fed), or an encoder that was trained on so many channels takes them all at once (Cell-DINO itself). A rule may also ask
for the mean over turned pictures. Values only.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

from cellvigil.bundle.encoder import EncoderBundle
from cellvigil.data import ImageRule
from cellvigil.errors import BundleError

_ONE_PICTURE = (1, 3)
"""Channels of an encoder that looks at one picture: grey, or colour."""


def ruled_bundle(bundle: EncoderBundle, rule: ImageRule) -> EncoderBundle:
    """The bundle as `rule` uses it: with channels or turns one of its own, whose vectors no other rule makes; else it.

    Its `channels` are the rule's where that names any, its `dimension` is that of what is stored. Raises BundleError
    for one that cannot look at the rule's pictures.
    """
    if why := misfit(bundle, rule):
        hint = "build the index with --channels that fit it, or take another encoder"
        raise BundleError(f"encoder {bundle.name} {why}", where=bundle.folder, hint=hint)
    if not rule.channels and rule.turns == 1:
        return bundle
    own = replace(bundle, sha256=ruled_sha256(bundle.sha256, rule))
    if not rule.channels:
        return own
    pictures = len(rule.channels) if rule.per_channel else 1
    return replace(own, channels=len(rule.channels), dimension=bundle.dimension * pictures)


def ruled_sha256(sha256: str, rule: ImageRule) -> str:
    """The identity of an encoder, known by its own `sha256`, as `rule` uses it: channels in their order, how, turns."""
    if rule.channels:
        sha256 = _digest([sha256, list(rule.channels), rule.per_channel])
    return sha256 if rule.turns == 1 else _digest([sha256, {"turns": rule.turns}])


def _digest(used: list[Any]) -> str:
    return hashlib.sha256(json.dumps(used).encode()).hexdigest()


def misfit(bundle: EncoderBundle, rule: ImageRule) -> str:
    """Why an encoder cannot look at pictures made by `rule`; "" where it can."""
    takes, given = bundle.channels, len(rule.channels)
    if not rule.channels:
        if takes not in _ONE_PICTURE:
            return f"takes {takes} channels at once, and the image rule gives {rule.colour} pictures"
        one = rule.colour == "rgb" and takes != len("rgb")
        return f"takes {takes} channel, and the image rule gives colour pictures" if one else ""
    if rule.per_channel and takes not in _ONE_PICTURE:
        return f"takes {takes} channels at once, and the image rule gives it each channel by itself (per_channel)"
    if not rule.per_channel and takes != given:
        return f"takes {takes} channels, and the image rule gives {given} at once: {', '.join(rule.channels)}"
    return ""
