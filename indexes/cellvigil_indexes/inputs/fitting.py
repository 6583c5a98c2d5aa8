"""Which encoders and cells may stand in one index: all must look at the same picture of a cell. Looks only.

In this house the picture belongs to the index, not to the encoder: the image rule says what is cut out, and that whole
crop is brought to each encoder's own input size, live and reference alike. So what a checkpoint's authors did to their
photographs before the first layer ("shortest side 256, centre crop 224") is on record in the bundle and not followed,
and encoders of different sizes go together. What cannot go together: an encoder that cannot take the rule's colours,
or that needs a step outside of its graph which nobody here does; and cells whose pictures were cut by another rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from cellvigil.bundle.encoder import EncoderBundle
from cellvigil.data import ImageRule
from cellvigil.errors import UsageError

_REPLACED = {"resize"}
"""Steps outside of an encoder's graph that the image rule takes the place of."""


def check_encoders_fit(rule: ImageRule, bundles: Sequence[EncoderBundle]) -> None:
    """Raises UsageError for an encoder that cannot look at pictures made by `rule`, or that is named twice."""
    names = [bundle.name for bundle in bundles]
    for bundle in bundles:
        if names.count(bundle.name) > 1:
            raise UsageError(f"encoder {bundle.name} is named twice", hint="its vectors would only be counted double")
        if rule.colour == "rgb" and bundle.channels != 3:
            what = f"encoder {bundle.name} takes {bundle.channels} channel, and the image rule gives colour pictures"
            raise UsageError(what, where=bundle.folder, hint="take --colour grey, or another encoder")
        outside = bundle.manifest.get("preprocessing", {}).get("outside_the_graph", {})
        if undone := sorted(set(outside) - _REPLACED):
            what = f"encoder {bundle.name} wants {', '.join(undone)} outside of its graph, which nothing here does"
            raise UsageError(what, where=bundle.folder, hint="export it again with cellvigil-export")
        if (order := bundle.manifest["input"].get("colour", "RGB")) != "RGB":
            raise UsageError(f"encoder {bundle.name} takes {order} pictures, not RGB", where=bundle.folder)


def check_same_rule(index: ImageRule, cells: ImageRule | None, *, where: str = "") -> None:
    """Raises UsageError if cells were cut by another rule than the index's; `cells` None: nobody knows."""
    if cells is None or cells == index:
        return
    mine, theirs = asdict(index), asdict(cells)
    differing = [f"{name} {theirs[name]} (index: {mine[name]})" for name in mine if mine[name] != theirs[name]]
    what = f"the cells' pictures were made by another rule: {', '.join(differing)}"
    raise UsageError(what, where=where, hint="cells of one index pass the same steps: embed them by the index's rule")
