"""Builds a reference index from labelled images; one call, no printing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cellvigil.bundle import files
from cellvigil.bundle.index import ReferenceIndex, open_index
from cellvigil.bundle.index_manifest import KIND, check_classes
from cellvigil.bundle.licences import licences_of
from cellvigil.bundle.ruled import ruled_sha256
from cellvigil.data import GROUPS, ImageRule
from cellvigil.errors import BundleError, UsageError
from cellvigil_indexes.draft import Draft
from cellvigil_indexes.inputs import leaks
from cellvigil_indexes.inputs.collecting import Progress, collect, open_bundles, start
from cellvigil_indexes.inputs.fitting import check_encoders_fit, scale_warnings
from cellvigil_indexes.inputs.gathering import Gathering
from cellvigil_indexes.inputs.labelled import LabelledImage, in_channels
from cellvigil_indexes.inputs.outlining import sam_of, sam_told
from cellvigil_indexes.inputs.pictures import picture_rule, settled
from cellvigil_indexes.setaside import split
from cellvigil_indexes.settings import IndexSettings
from cellvigil_indexes.writing import write_index


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What to build."""

    folder: Path  # the index's own folder; its name is the index's
    images: Sequence[LabelledImage]
    classes: Sequence[str]  # that the input names, whether or not it has cells of them
    states: Mapping[str, str]  # class name -> group; classes not named are "none"
    rule: ImageRule
    intensity: str  # "auto", or "" where the rule says it
    colour: str  # "auto", or "" where the rule says it
    pixel_size_um: float | None  # of the images; None: fitted whole
    cell_diameter_um: float | None  # outline cells as the daemon does, for this size; None: as annotated
    encoders: Sequence[str]  # names, in the order of concatenation
    encoder_folder: Path
    device: str
    settings: IndexSettings
    provenance: Mapping[str, Any]
    set_aside: float = 0.0  # share of the cells that become no references: certainty is calibrated on them
    replace: bool = False
    force_storage: bool = False  # half precision even where that changes calls
    segmenter: str = ""  # a segmenter bundle beside the encoders that outlines them then; "" = OpenCV alone
    gathering: Gathering = field(default_factory=Gathering)  # which of the cells are taken, and what is cached


def build(plan: Plan, progress: Progress) -> ReferenceIndex:
    """Build and open the index; classes without cells are left out of it.

    Raises UsageError for a plan that makes no sense, BadFile for an image that does not open, BundleError for an
    encoder that is not there or an index that already is.
    """
    if plan.folder.exists() and not plan.replace:  # said before the long work, and again when it is written
        raise BundleError(
            "there is an index of this name already", where=plan.folder, hint="choose another, or --force"
        )
    _spare_aligned(plan.folder)
    if former := sorted(path.name for path in plan.folder.parent.glob(f"{plan.folder.name}.v[0-9]*")):
        what = f"former versions of this index are kept: {', '.join(former)}"
        raise BundleError(what, where=plan.folder, hint="move them away with it, or choose another name")
    counts = Counter(cell.class_name for image in plan.images for cell in image.cells)
    classes = [name for name in plan.classes if counts[name]]
    if not classes:
        raise UsageError("the input labels no cell", hint="look at the annotations, --only and --exclude")
    check_classes(classes, dict.fromkeys(classes, "none"))
    groups = groups_of(classes, plan.states)
    bundles = open_bundles(plan.encoders, plan.encoder_folder)
    check_encoders_fit(plan.rule, bundles)
    images = in_channels(plan.images, plan.rule)
    rule = settled(plan.rule, images, intensity=plan.intensity, colour=plan.colour)
    sam = sam_of(plan.segmenter, plan.encoder_folder, plan.device)
    how = picture_rule(rule, images, plan.pixel_size_um, plan.cell_diameter_um, sam)
    check_encoders_fit(rule, bundles)
    collected = collect(images, how, start(bundles, plan.device), progress, plan.gathering)
    there = {cell.class_name for cell in collected.cells}
    classes = [name for name in classes if name in there]
    kept, aside = split(collected, classes, plan.set_aside, k_min=plan.settings.k_min)
    draft = Draft(
        collected=kept,
        set_aside=aside,
        groups={name: groups[name] for name in classes},
        encoders={bundle.name: ruled_sha256(bundle.sha256, rule) for bundle in bundles},
        used=[bundle.name for bundle in bundles],
        image_rule=rule,
        settings=plan.settings,
        provenance={
            **plan.provenance,
            "source_pixel_size_um": plan.pixel_size_um,
            "cell_diameter_um": how.outlines.cell_diameter_um if how.outlines else None,
            **sam_told(sam),
            "intensity_range": how.ranges.get(""),  # raw values of all its pictures that became 0 and 255
            "licences": {bundle.name: licences_of(bundle.manifest) for bundle in bundles},
            **({"channel_ranges": how.channel_ranges.get("")} if rule.channels else {}),  # the same, by channel
            "warnings": [
                *plan.provenance.get("warnings", []),
                *scale_warnings(rule, bundles),
                *collected.warnings,
                *leaks.within(collected.cells, collected.thumbnails),
            ],
        },
    )
    write_index(plan.folder, draft, replace=plan.replace, force_storage=plan.force_storage)
    return open_index(plan.folder)


def _spare_aligned(folder: Path) -> None:
    """Raises BundleError where an aligned index stands: building over it would lose the fit."""
    if (folder / files.MANIFEST).is_file() and files.read_manifest(folder, KIND).get("voters"):
        what = f"{folder.name} is an aligned index, which `build` does not replace"
        raise BundleError(what, where=folder, hint="choose another name, or delete the folder; then align again")


def groups_of(classes: Sequence[str], states: Mapping[str, str]) -> dict[str, str]:
    """Class name -> group for every class, "none" where `states` is silent; names are matched whatever their case.

    Raises UsageError for a class or a group that does not exist.
    """
    by_case = {name.casefold(): name for name in classes}
    groups = dict.fromkeys(classes, "none")
    for name, group in states.items():
        if name.casefold() not in by_case:
            raise UsageError(f"--states names {name!r}; the classes are {', '.join(classes)}", hint="name one of them")
        if group not in GROUPS:
            raise UsageError(f"--states {name}={group}: there is no group {group!r}", hint=f"use {', '.join(GROUPS)}")
        groups[by_case[name.casefold()]] = group
    return groups
