"""The README's first command: a simulated assay through the whole product, and its score against the truth."""

from cellvigil.demo.play import demo

__all__ = ["demo"]
