"""Cellvigil: live cell-state counts beside a live-cell microscope. The runtime; it never imports torch."""

__version__ = "0.1.0"
