"""From settled files to complete frames. Pure: what the names say, the source's rules, and `now`; nothing is opened."""

from cellvigil.assemble.assembler import Assembler, Outcome

__all__ = ["Assembler", "Outcome"]
