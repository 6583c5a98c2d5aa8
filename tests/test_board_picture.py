"""Colours of the page that can be told apart and read, and the last frame with its cells outlined in them."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from cellvigil.board import style
from cellvigil.board.picture import drawn
from cellvigil.board.values import GROUP_COLOURS, UNKNOWN_COLOUR, colours_of
from plate_lines import GROUPS


def luminance(colour: str) -> float:
    """WCAG 2.1's relative luminance."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    bright, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(
    ("tints", "inks"),
    [(style.TINTS_LIGHT, style.INKS_LIGHT), (style.TINTS_DARK, style.INKS_DARK)],
    ids=["light", "dark"],
)
def test_tints_are_a_scale_and_their_text_can_be_read(tints: tuple[str, ...], inks: tuple[str, ...]) -> None:
    assert all(contrast(tint, ink) >= 4.5 for tint, ink in zip(tints, inks, strict=True))
    steps = [luminance(tint) for tint in tints]
    assert steps in (sorted(steps), sorted(steps, reverse=True))  # lightness alone tells them apart, also in grey


def test_states_have_colours_by_group() -> None:
    groups = {"live": "alive", "early": "dying", "late": "dying", "odd": "?"}
    found = colours_of((*groups, "unknown"), groups)
    assert found["live"] == GROUP_COLOURS["alive"][0]
    assert [found["early"], found["late"]] == list(GROUP_COLOURS["dying"])
    assert found["odd"] == found["unknown"] == UNKNOWN_COLOUR


def decoded(data: bytes) -> np.ndarray:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return image[..., ::-1].astype(int)


def squares(shape: tuple[int, int] = (120, 160)) -> np.ndarray:
    labels = np.zeros(shape, dtype=np.int32)
    labels[20:60, 20:60], labels[20:60, 90:130], labels[70:110, 20:60] = 1, 2, 3
    return labels


PLANES: dict[str, Callable[[tuple[int, int]], np.ndarray]] = {
    "u8": lambda shape: np.full(shape, 90, np.uint8),
    "u16": lambda shape: np.full(shape, 40_000, np.uint16),
    "f32": lambda shape: np.full(shape, 0.5, np.float32),
    "nan": lambda shape: np.full(shape, np.nan, np.float32),
    "inf": lambda shape: np.full(shape, np.inf, np.float32),
    "noise": lambda shape: np.random.default_rng(1).integers(0, 65_535, shape, dtype=np.uint16),
}


@pytest.mark.parametrize("kind", PLANES)
def test_cells_are_outlined_in_their_states_colours(kind: str) -> None:
    colours = colours_of(("live", "necrotic", "unknown"), GROUPS)
    image = decoded(drawn(PLANES[kind]((120, 160)), squares(), {1: "live", 2: "necrotic"}, colours))
    assert image.shape == (120, 160, 3)
    for top, left, colour in ((20, 20, colours["live"]), (20, 90, colours["necrotic"]), (70, 20, UNKNOWN_COLOUR)):
        wanted = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
        edge = image[top + 1, left + 5 : left + 35]
        assert np.abs(np.median(edge, axis=0) - wanted).max() < 30
    if kind != "noise":
        inside = image[30:50, 30:50]
        assert np.ptp(inside, axis=2).max() < 12  # grey: the cell itself can be seen


def test_a_frame_without_cells_is_grey() -> None:
    image = decoded(drawn(PLANES["noise"]((50, 70)), np.zeros((50, 70), np.int32), {}, {}))
    assert image.shape == (50, 70, 3)
    assert np.ptp(image, axis=2).max() <= 2
    assert image.min() < 20 < 235 < image.max()  # the whole range is used


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (3, 2000), (2400, 2400)])
def test_pictures_of_any_size(shape: tuple[int, int]) -> None:
    labels = np.zeros(shape, np.int32)
    labels.flat[0] = 1
    image = decoded(drawn(np.zeros(shape, np.uint16), labels, {1: "live"}, {}))
    assert max(image.shape) <= 1200
    assert min(image.shape) >= 1


def test_masks_beyond_the_calls_cost_nothing() -> None:
    decoded(drawn(PLANES["u8"]((120, 160)), squares(), {1: "live", 900: "live"}, {"live": "#009E73"}))
