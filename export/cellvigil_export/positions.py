"""Position embeddings of vision transformers at the size of an encoder's pictures, so that no graph resizes them."""

from __future__ import annotations

import math
from typing import Any

import torch

INTERPOLATE = ("dinov2", "dinov2_with_registers")
"""Architectures that bring their positions to the size of a picture by themselves, on each run."""


def bake_positions(network: Any, side: int, *, offset: float = 0.0) -> None:
    """Replace the position embedding of `network` by the one for pictures of `side` pixels; of `INTERPOLATE` only.

    Bicubic, as transformers does it; `offset` is added to the new grid's side, as DINOv2's authors do (0.1).
    """
    if network.config.model_type not in INTERPOLATE:
        return
    embeddings, patches = network.embeddings, side // network.config.patch_size
    present = embeddings.position_embeddings
    grid = math.isqrt(present.shape[1] - 1)
    if grid == patches:
        return
    with torch.no_grad():
        square = present[:, 1:].reshape(1, grid, grid, -1).permute(0, 3, 1, 2)
        wanted = {"scale_factor": ((patches + offset) / grid,) * 2} if offset else {"size": (patches, patches)}
        resized = torch.nn.functional.interpolate(square, mode="bicubic", align_corners=False, **wanted)
        tokens = resized.permute(0, 2, 3, 1).reshape(1, patches * patches, -1)
        positions = torch.cat((present[:, :1], tokens), dim=1)
    embeddings.position_embeddings = torch.nn.Parameter(positions, requires_grad=False)
