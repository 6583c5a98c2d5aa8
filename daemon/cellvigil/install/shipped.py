"""The files that come with the program: units and the configuration, from the wheel or from a source tree."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

_TREE = Path(__file__).parents[3]


def shipped(name: str) -> str:
    """The text of `name`, one of the units or "config.yaml". Raises FileNotFoundError where the wheel lacks it."""
    inside = resources.files("cellvigil.install").joinpath("files", name)
    if inside.is_file():
        return inside.read_text(encoding="utf-8")
    folder = _TREE if name == "config.yaml" else _TREE / "systemd"
    return (folder / name).read_text(encoding="utf-8")
