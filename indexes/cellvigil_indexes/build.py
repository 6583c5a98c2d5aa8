"""Builds a reference index from labelled images; one call, no printing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellvigil.bundle.index import ReferenceIndex, open_index
from cellvigil.bundle.index_manifest import check_classes
from cellvigil.data import GROUPS, ImageRule
from cellvigil.errors import BundleError, UsageError
from cellvigil_indexes.collecting import Progress, collect, open_bundles, start
from cellvigil_indexes.labelled import LabelledImage
from cellvigil_indexes.pictures import picture_rule, settled
from cellvigil_indexes.writing import IndexSettings, write_index


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
    replace: bool = False


def build(plan: Plan, progress: Progress) -> ReferenceIndex:
    """Build and open the index; classes without cells are left out of it.

    Raises UsageError for a plan that makes no sense, BadFile for an image that does not open, BundleError for an
    encoder that is not there or an index that already is.
    """
    if plan.folder.exists() and not plan.replace:  # said before the long work, and again when it is written
        raise BundleError(
            "there is an index of this name already", where=plan.folder, hint="choose another, or --force"
        )
    if len(set(plan.encoders)) != len(plan.encoders):
        raise UsageError("an encoder is named twice", hint="its vectors would only be counted double")
    counts = Counter(cell.class_name for image in plan.images for cell in image.cells)
    classes = [name for name in plan.classes if counts[name]]
    if not classes:
        raise UsageError("the input labels no cell", hint="look at the annotations, --only and --exclude")
    check_classes(classes, dict.fromkeys(classes, "none"))
    groups = groups_of(classes, plan.states)
    bundles = open_bundles(plan.encoders, plan.encoder_folder)
    rule = settled(plan.rule, plan.images, intensity=plan.intensity, colour=plan.colour)
    how = picture_rule(rule, plan.images, plan.pixel_size_um, plan.cell_diameter_um)
    collected = collect(plan.images, how, start(bundles, plan.device), progress)
    write_index(
        plan.folder,
        collected,
        groups=groups,
        encoders={bundle.name: bundle.sha256 for bundle in bundles},
        image_rule=rule,
        settings=plan.settings,
        provenance={
            **plan.provenance,
            "source_pixel_size_um": plan.pixel_size_um,
            "cell_diameter_um": plan.cell_diameter_um,
        },
        replace=plan.replace,
    )
    return open_index(plan.folder)


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
