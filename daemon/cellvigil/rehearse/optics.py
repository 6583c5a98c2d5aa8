"""From a scene to the picture that a camera makes of it: lamp, ground, cells, blur, noise, camera steps. Pure."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import cv2
import numpy as np

from cellvigil.data import F32, Array
from cellvigil.rehearse import brightfield
from cellvigil.rehearse.patch import distances, patches, window_of
from cellvigil.rehearse.scene import NECROTIC, Floats, Scene
from cellvigil.rehearse.shape import shapes_of

SATURATION = 65520
"""Highest value of the camera: 12 bits in the upper part of 16 (Gen5's `SaturationLevel`)."""

_STEP = 16
_FULL_WELL = 11_000.0  # electrons at saturation: sets the shot noise
_READ_NOISE = 0.0015  # of saturation
_GROUND = 0.46  # of saturation: how bright the empty ground is exposed


@dataclass(frozen=True, slots=True)
class Optics:
    """What the pictures need beyond the scene."""

    shape: tuple[int, int]  # (Y, X) pixels
    pixel_size_um: float
    seed: int
    mitosis: float  # share of the cell cycle spent rounded up


def bright_field(scene: Scene, optics: Optics) -> Array:
    """One frame, (Y, X) u16 in steps of 16 up to SATURATION."""
    rng = frame_rng(scene, optics.seed, "bright field")
    canvas = np.zeros(optics.shape, dtype=np.float32)
    _dirt(canvas, scene, optics)
    shapes = shapes_of(scene.cells, optics.mitosis)
    brightfield.paint(canvas, shapes, scene.cells["state"], centres_px(scene, optics), optics.pixel_size_um)
    for bubble in scene.bubbles:
        _bubble(canvas, bubble / optics.pixel_size_um, optics.pixel_size_um)
    canvas = blurred(_shaded(canvas), scene, optics, 0.35)
    picture = (1 + np.float32(scene.well.contrast) * canvas) * _lamp(scene, optics)
    return camera(picture, rng)


def dead_stain(scene: Scene, optics: Optics) -> Array:
    """The same field through a dye that only enters dead cells (as SYTOX Green in the GFP channel), (Y, X) u16."""
    rng = frame_rng(scene, optics.seed, "dead stain")
    canvas = np.full(optics.shape, 0.015, dtype=np.float32)
    shapes = shapes_of(scene.cells, optics.mitosis)
    dead = [int(row) for row in np.flatnonzero(scene.cells["state"] == NECROTIC)]
    for patch in patches(shapes, dead, centres_px(scene, optics), optics.shape, optics.pixel_size_um):
        glow = (0.15 + 0.35 * float(patch.traits[39])) * min(1.0, 0.3 + 2 * float(shapes.course[patch.index]))
        canvas[patch.window] += brightfield.nucleus(patch, float(shapes.body[patch.index]), glow, NECROTIC, 0.0)
    return camera(blurred(canvas, scene, optics, 0.4), rng)


def centres_px(scene: Scene, optics: Optics) -> Floats:
    """Centres of the cells, (n, 2) y, x in pixels; the first pixel's centre is 0."""
    return np.asarray(np.stack([scene.cells["y_um"], scene.cells["x_um"]], axis=1) / optics.pixel_size_um)


def frame_rng(scene: Scene, seed: int, purpose: str) -> np.random.Generator:
    """The generator of one frame's noise: the same whichever frames were drawn before."""
    place = zlib.crc32(f"{scene.well.name}/{scene.field}/{purpose}".encode())
    return np.random.default_rng([seed, place, scene.timepoint])


def blurred(canvas: F32, scene: Scene, optics: Optics, sigma_um: float) -> F32:
    """The canvas through the objective: its resolution, and the defocus of this frame."""
    sigma = float(np.hypot(sigma_um, scene.defocus_um)) / optics.pixel_size_um
    return np.asarray(cv2.GaussianBlur(canvas, (0, 0), sigma, borderType=cv2.BORDER_REFLECT), dtype=np.float32)


def camera(picture: F32, rng: np.random.Generator) -> Array:
    """Light (1 = saturation) as the camera counts it: shot and read noise, 12 bits in the upper part of u16."""
    light = np.maximum(picture, 0)
    noise = rng.standard_normal(picture.shape, dtype=np.float32)
    noisy = light + noise * np.sqrt(light / np.float32(_FULL_WELL) + np.float32(_READ_NOISE**2))
    counts = np.clip(noisy * np.float32(SATURATION / _STEP) + np.float32(0.5), 0, SATURATION / _STEP)
    return np.asarray(counts.astype(np.uint16) * np.uint16(_STEP))


def _lamp(scene: Scene, optics: Optics) -> F32:
    """Uneven light: brighter towards a point that is the well's own, darker at the corners."""
    fixed = np.random.default_rng([optics.seed, zlib.crc32(scene.well.name.encode())]).uniform(-1, 1, 4)
    y = np.linspace(-1, 1, optics.shape[0], dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, optics.shape[1], dtype=np.float32)[None, :]
    fall = (y - np.float32(0.4 * fixed[0])) ** 2 + (x - np.float32(0.4 * fixed[1])) ** 2
    tilt = np.float32(0.04 * fixed[2]) * y + np.float32(0.04 * fixed[3]) * x
    return np.asarray(
        np.float32(_GROUND * scene.well.brightness) * (1.03 - np.float32(0.06) * fall + tilt), dtype=np.float32
    )


def _shaded(canvas: F32) -> F32:
    """The canvas with a little relief: the lamp never shines quite straight down."""
    relief = np.array([[-1, -1, 0], [-1, 0, 1], [0, 1, 1]], dtype=np.float32) * np.float32(0.05)
    relief[1, 1] = 1
    return np.asarray(cv2.filter2D(canvas, -1, relief, borderType=cv2.BORDER_REFLECT), dtype=np.float32)


def _dirt(canvas: F32, scene: Scene, optics: Optics) -> None:
    """Mottling of the plate's bottom and specks under a um: the same in every frame of a field."""
    place = zlib.crc32(f"{scene.well.name}/{scene.field}/dirt".encode())
    rng = np.random.default_rng([optics.seed, place])
    coarse = rng.standard_normal(tuple(size // 24 + 4 for size in optics.shape), dtype=np.float32)
    canvas += np.float32(0.008) * cv2.resize(coarse, optics.shape[::-1], interpolation=cv2.INTER_CUBIC)
    ground = optics.shape[0] * optics.shape[1] * optics.pixel_size_um**2
    for y, x, sign in rng.random((int(ground / 2500), 3)):
        at = (round(x * optics.shape[1]), round(y * optics.shape[0]))
        size = max(1, round(0.45 / optics.pixel_size_um))
        cv2.circle(canvas, at, size, 0.12 if sign > 0.5 else -0.16, -1)


def _bubble(canvas: F32, bubble_px: Floats, pixel_size_um: float) -> None:
    """An air bubble in the medium: a broad dark ring with a bright edge and a clear middle."""
    radius = float(bubble_px[2])
    window = window_of(canvas.shape, bubble_px[:2], radius + 4 / pixel_size_um)
    if window is None:
        return
    dy, dx = distances(window, bubble_px[:2], 1.0)
    share = np.sqrt(dy * dy + dx * dx) / np.float32(radius)
    ring = -0.55 * np.exp(-(((share - 0.86) / 0.11) ** 2)) + 0.25 * np.exp(-((share / 0.35) ** 2))
    edge = 0.3 * np.exp(-(((share - 1.03) / 0.03) ** 2))
    ground = canvas[window]
    np.copyto(ground, np.where(share < 1, 0.4 * ground + ring, ground) + edge)
