"""Single-cell images sorted into one folder a class. Lists the folder; opens no image."""

from __future__ import annotations

from pathlib import Path

from cellvigil.errors import UsageError
from cellvigil_indexes.labelled import WHOLE, LabelledCell, LabelledImage, LabelledSet

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


def read_folders(root: Path) -> LabelledSet:
    """The images below `root`, one cell each, and the class names (its folders).

    Hidden files and other file types are passed over. Raises UsageError if there is no folder or no image.
    """
    if not root.is_dir():
        raise UsageError("there is no such folder", where=root, hint="--images takes a folder with one folder a class")
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    images = [
        LabelledImage(path, path.relative_to(root).as_posix(), (LabelledCell(folder.name, WHOLE, (0.0, 0.0)),))
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    ]
    if not images:
        hint = f"--images takes a folder with one folder a class, holding {', '.join(IMAGE_SUFFIXES)}"
        raise UsageError("there are no single-cell images here", where=root, hint=hint)
    return LabelledSet(images, [folder.name for folder in folders], provenance={"images": root.resolve().name})
