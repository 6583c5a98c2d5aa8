"""Cells in an image: one protocol, one way to measure what a segmenter found. Pure; no file is touched."""

from cellvigil.segment.measure import cells_from_labels
from cellvigil.segment.opencv import opencv_segmenter
from cellvigil.segment.protocol import Segmenter

__all__ = ["Segmenter", "cells_from_labels", "opencv_segmenter"]
