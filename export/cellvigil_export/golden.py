"""Pictures to try an encoder on: drawn, seeded, and like what it will see; nothing here is a photograph."""

from __future__ import annotations

import numpy as np

from cellvigil.data import U8


def pictures(count: int, side: int, channels: int, *, seed: int) -> U8:
    """`count` drawn pictures (count, side, side, channels) u8: cells on an uneven, noisy background.

    Half of them are grey (all channels alike), as label-free microscopy is; the others have coloured cells.
    """
    random = np.random.default_rng(seed)
    return np.stack([_picture(random, side, channels, grey=number % 2 == 0) for number in range(count)])


def _picture(random: np.random.Generator, side: int, channels: int, *, grey: bool) -> U8:
    y, x = np.mgrid[0:side, 0:side] / side
    tilt = random.uniform(-0.2, 0.2, 2)
    image = np.repeat((0.5 + tilt[0] * (y - 0.5) + tilt[1] * (x - 0.5))[..., None], channels, axis=2)
    for cell in range(random.integers(1, 5)):
        centre = random.uniform(0.2, 0.8, 2) if cell else random.uniform(0.4, 0.6, 2)
        radius, squeeze = random.uniform(0.08, 0.25), random.uniform(0.7, 1.4)
        distance = np.hypot((y - centre[0]) * squeeze, (x - centre[1]) / squeeze) / radius
        body, rim = np.exp(-(distance**4)), np.exp(-(((distance - 1.0) / 0.12) ** 2))
        paint = random.uniform(-0.4, 0.3, 1 if grey else channels)
        image = image + body[..., None] * paint + 0.2 * rim[..., None]
    noise = random.normal(0.0, 0.02, (side, side, 1 if grey else channels))
    return np.asarray(np.clip((image + noise) * 255.0, 0, 255).round(), dtype=np.uint8)
