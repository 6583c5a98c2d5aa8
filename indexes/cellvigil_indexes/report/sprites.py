"""Thumbnails as pictures inside the page: JPEG for colour, PNG for grey, as data: URIs."""

from __future__ import annotations

import base64

import cv2
import numpy as np

from cellvigil.bundle.index_manifest import THUMBNAIL_PX
from cellvigil.data import I64, U8
from cellvigil.markup import Html, tag

_GAP = 2  # white pixels between thumbnails
_JPEG_QUALITY = 85  # about 2 KB a thumbnail


def strip(thumbnails: U8, rows: I64, words: str) -> Html:
    """These thumbnails side by side as one picture; `words` is its alternative text."""
    gap = np.full((THUMBNAIL_PX, _GAP, thumbnails.shape[-1]), 255, dtype=np.uint8)
    parts = [part for row in rows for part in (np.asarray(thumbnails[row]), gap)][:-1]
    sheet = np.ascontiguousarray(np.concatenate(parts, axis=1))
    return tag("img", src=_uri(sheet), width=str(sheet.shape[1]), height=str(THUMBNAIL_PX), alt=words, class_="strip")


def thumbnail(thumbnails: U8, row: int, words: str) -> Html:
    """One thumbnail; `words` is its alternative text."""
    side = str(THUMBNAIL_PX)
    return tag("img", src=_uri(np.asarray(thumbnails[row])), width=side, height=side, alt=words)


def _uri(picture: U8) -> str:
    """(Y, X, C) u8, C 1 or 3 (red, green, blue), as a data: URI."""
    if picture.shape[-1] == 3:
        done, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        kind = "jpeg"
    else:
        done, data = cv2.imencode(".png", picture[..., 0])
        kind = "png"
    if not done:
        raise ValueError(f"a picture of shape {picture.shape} cannot be encoded")
    return f"data:image/{kind};base64,{base64.b64encode(data.tobytes()).decode()}"
