"""Which encoders and cells may stand in one index: all must look at the same picture of a cell. Looks only.

The picture belongs to the index: its image rule says what is cut out, live and reference alike. What a checkpoint's
authors did to their photographs before the first layer ("shortest side 256, centre crop 224") belongs to the encoder:
it is done to that whole crop, by the bundle's own fit, so encoders of different sizes and fits go together. What cannot
go together: an encoder that cannot take the rule's colours, and cells whose pictures were cut by another rule. A bundle
that needs a step outside of its graph which nobody here does is not opened at all (`bundle.fit`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from cellvigil.bundle.encoder import EncoderBundle
from cellvigil.bundle.ruled import misfit
from cellvigil.data import ImageRule
from cellvigil.errors import UsageError

_OFF_SCALE = 0.1  # of an encoder's side, above which a crop is worth a word


def check_encoders_fit(rule: ImageRule, bundles: Sequence[EncoderBundle]) -> None:
    """Raises UsageError for an encoder that cannot look at pictures made by `rule`, or that is named twice."""
    names = [bundle.name for bundle in bundles]
    for bundle in bundles:
        if names.count(bundle.name) > 1:
            raise UsageError(f"encoder {bundle.name} is named twice", hint="its vectors would only be counted double")
        if why := misfit(bundle, rule):
            hint = "take other --channels (--per-channel: each by itself), another --colour, or another encoder"
            raise UsageError(f"encoder {bundle.name} {why}", where=bundle.folder, hint=hint)
        if (order := bundle.manifest["input"].get("colour", "RGB")) != "RGB":
            raise UsageError(f"encoder {bundle.name} takes {order} pictures, not RGB", where=bundle.folder)


def scale_warnings(rule: ImageRule, bundles: Sequence[EncoderBundle]) -> list[str]:
    """Which encoders see cells at another scale than their authors showed them, in words.

    One that takes several channels at once and normalises each picture by itself (Cell-DINO) was shown crops of its own
    side, never a resized picture; `Fit` resizes whatever the rule cuts out.
    """
    if not rule.frame_normalised:
        return []  # of ready-made pictures each has its own scale
    width, told = round(rule.crop_um / rule.pixel_size_um), []
    for bundle in bundles:
        side, mean = bundle.input_size, bundle.manifest.get("preprocessing", {}).get("mean")
        if bundle.channels > len("rgb") and mean == [] and abs(width - side) > _OFF_SCALE * side:
            told.append(
                f"encoder {bundle.name} was made for crops of {side} px as they are, and sees {width} px resized; "
                f"--crop-um {side * rule.pixel_size_um:g} shows cells at their own scale"
            )
    return told


def check_same_rule(index: ImageRule, cells: ImageRule | None, *, where: str = "") -> None:
    """Raises UsageError if cells were cut by another rule than the index's; `cells` None: nobody knows."""
    if cells is None or cells == index:
        return
    mine, theirs = asdict(index), asdict(cells)
    differing = [f"{name} {theirs[name]} (index: {mine[name]})" for name in mine if mine[name] != theirs[name]]
    what = f"the cells' pictures were made by another rule: {', '.join(differing)}"
    raise UsageError(what, where=where, hint="cells of one index pass the same steps: embed them by the index's rule")
