"""Images sorted into one folder a class: single cells, or homogeneous frames. Lists the folder.

Of frames the header is opened where nobody says how large a pixel is; of single cells nothing is opened.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from cellvigil.errors import UsageError
from cellvigil_indexes.inputs.faults import Faults, one_spelling
from cellvigil_indexes.inputs.images import own_pixel_size
from cellvigil_indexes.inputs.labelled import EVERY, WHOLE, LabelledCell, LabelledImage, LabelledSet

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


def read_folders(root: Path, *, skip_bad: bool = False, flat: bool = False) -> LabelledSet:
    """The images below `root`, one cell each, and the class names (its folders).

    `flat`: images that lie in `root` itself are taken, too; their class is "" (not known).

    Hidden files and other file types are passed over. Raises UsageError if there is no folder or no image, or (without
    `skip_bad`, which takes them as one class) for folders whose names differ in case only.
    """
    faults = Faults()
    files, classes = _sorted_into_classes(root, "--images", faults, flat=flat)
    images = [
        LabelledImage(path, path.relative_to(root).as_posix(), (LabelledCell(name, WHOLE, (0.0, 0.0)),))
        for path, name in files
    ]
    warnings = faults.settle("the folder", where=root, skip_bad=skip_bad)
    return LabelledSet(images, classes, provenance={"images": root.resolve().name}, warnings=warnings)


def read_frames(root: Path, pixel_size_um: float | None, *, skip_bad: bool = False, flat: bool = False) -> LabelledSet:
    """The frames below `root`: each shows cells of one class only, its folder's (the papers' cell type data sets).

    The cells are found later, by the daemon's segmenter. Each frame has `pixel_size_um`, else what its own file says.
    Frames of equally named folders below the class folders share one intensity range over all classes, so that no
    class is normalised by itself. `flat` as in `read_folders`. Raises as `read_folders` does, and UsageError for frames
    without a pixel size.
    """
    faults = Faults()
    files, classes = _sorted_into_classes(root, "--frames", faults, flat=flat)
    images = []
    for path, name in files:
        size = (pixel_size_um, pixel_size_um) if pixel_size_um else own_pixel_size(path)
        if size is None:
            faults.add("frames that do not say how large a pixel is (see --pixel-size)", path.name)
            continue
        relative = path.relative_to(root).as_posix()
        series = PurePosixPath(*PurePosixPath(relative).parts[1:-1]).as_posix()
        cell = LabelledCell(name, EVERY, (0.0, 0.0))
        images.append(LabelledImage(path, relative, (cell,), pixel_size_um=size, series=series))
    warnings = faults.settle("the folder", where=root, skip_bad=skip_bad)
    if not images:
        raise UsageError("how large is a pixel of these frames?", hint="say so with --pixel-size, in micrometres")
    coarsest = max(max(image.pixel_size_um) for image in images if image.pixel_size_um)
    return LabelledSet(images, classes, coarsest, {"frames": root.resolve().name}, warnings=warnings)


def _sorted_into_classes(
    root: Path, option: str, faults: Faults, *, flat: bool
) -> tuple[list[tuple[Path, str]], Sequence[str]]:
    """Every image with its class, and the classes; folders whose names differ in case only are one, and noted."""
    wanted = "a folder of images" if flat else "a folder with one folder a class"
    if not root.is_dir():
        raise UsageError("there is no such folder", where=root, hint=f"{option} takes {wanted}")
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    spelled = one_spelling([folder.name for folder in folders], faults, "class folders that differ in case only")
    files = [(path, "") for path in sorted(root.iterdir()) if _is_image(path)] if flat else []
    files += [
        (path, spelled[folder.name]) for folder in folders for path in sorted(folder.rglob("*")) if _is_image(path)
    ]
    if not files:
        hint = f"{option} takes {wanted}, holding {', '.join(IMAGE_SUFFIXES)}"
        raise UsageError("there are no images here", where=root, hint=hint)
    return files, list(dict.fromkeys(spelled.values()))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and not path.is_dir()
