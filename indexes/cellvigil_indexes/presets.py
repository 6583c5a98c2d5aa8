"""The papers' published settings, by name.

"Leveraging a foundation model zoo for cell similarity search", Frontiers in Oncology 2025, section 2.4.1; encoders by
the names they have in `cellvigil-export list` (section 2.2 says which checkpoints they are). Where the paper is silent
about the distance it is L2, as for its first data set; the combination "in doubt" is from the discussion, which gives
no depths, so it has ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cellvigil_indexes.settings import IndexSettings

SAM, DINO, CONVNEXT = "sam-vit-huge", "dinov2-giant", "convnextv2-large"
SWIN, CLIP, VITMAE = "swinv2-large", "clip-vit-large", "vit-mae-huge"


@dataclass(frozen=True, slots=True)
class Preset:
    """What was published for one data set."""

    about: str
    encoders: tuple[str, ...]  # in the order of concatenation
    settings: IndexSettings


PRESETS: Mapping[str, Preset] = {
    "wbc": Preset("stained white blood cells", (SAM, CONVNEXT, SWIN, CLIP), IndexSettings(3, 1000, 0.3)),
    "wbc-to-lisc": Preset(
        "stained white blood cells, called on another microscope",
        (DINO, CONVNEXT, SWIN, VITMAE),
        IndexSettings(3, 1000, 0.3),
    ),
    "cell-death-nanolive": Preset(
        "cell death, Nanolive", (SAM, CONVNEXT, SWIN, CLIP, VITMAE), IndexSettings(3, 100, 0.6, metric="canberra")
    ),
    "cell-death-to-lionheart": Preset(
        "cell death, reference from the Nanolive, called on the Lionheart",
        (SAM, DINO, SWIN),
        IndexSettings(10, 1000, 0.1),
    ),
    "cell-type-lionheart": Preset(
        "cell type, Lionheart, and called on the Nanolive", (SAM, DINO, CONVNEXT, CLIP), IndexSettings(20, 1000, 0.2)
    ),
    "pbmc-mixtures": Preset(
        "cell lines among PBMCs", (SAM, DINO, CONVNEXT, SWIN, CLIP), IndexSettings(33, 1000, 0.2, reweight=False)
    ),
    "in-doubt": Preset("no data set in particular", (DINO, CONVNEXT, SWIN), IndexSettings()),
}
