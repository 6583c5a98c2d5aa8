"""The segmenters that can be exported: SAM's image encoders, each with its prompt-and-mask decoder.

Adding the next takes one entry. A `Declaration` here is of the image encoder (`dimension`: of the features at each
place); `segmenter_make` makes a bundle of two graphs of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cellvigil.data import Array, Fit
from cellvigil_export.declaration import Declaration, Licences, Preprocessing

IMAGENET = Preprocessing(Fit(1024, "bilinear"), scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
_FAMILY = "cellvigil_export.sam:make"  # of the encoder alone
_VECTOR = "features of the picture's places, for the mask decoder"
_APACHE = Licences(upstream="Apache-2.0", weights="Apache-2.0")


def _sam(size: str, width: int) -> Declaration:
    return Declaration(
        name=f"sam-vit-{size}-segmenter",
        checkpoint=f"facebook/sam-vit-{size}",
        family=_FAMILY,
        vector=_VECTOR,
        dimension=256,
        width=width,
        preprocessing=IMAGENET,
        licences=_APACHE,
        architecture="sam",
        hub=True,
        page=f"https://huggingface.co/facebook/sam-vit-{size}",
    )


_DECLARED = (
    Declaration(
        name="mobile-sam",
        checkpoint="mobile_sam.pt",
        family=_FAMILY,
        vector=_VECTOR,
        dimension=256,
        width=320,
        preprocessing=IMAGENET,
        licences=_APACHE,
        page="https://github.com/ChaoningZhang/MobileSAM",
    ),
    _sam("base", 768),
    _sam("large", 1024),
    _sam("huge", 1280),
)


@dataclass(frozen=True, slots=True, eq=False)
class Graphs:
    """What stays known of two graphs when torch is gone."""

    wanted: Mapping[str, Array]  # what torch gives for the trial; see `segmenter_check.checked`
    against: str  # which torch
    preprocessing: Preprocessing  # as baked in: the checkpoint's own where it says
    sha256: Mapping[str, str]  # of the checkpoint's files


SEGMENTERS = {declared.name: declared for declared in _DECLARED}
