"""Whether a target's cells span all groups of an index: only then may they be transported or their classes dropped.

`methods.md`, "Transport": the first cells of an assay are nearly all alive; a transport fitted on them would spread the
dead references over live cells, and class filtering would drop them. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

from cellvigil.errors import UsageError

COUNTED = ("alive", "dying", "dead")
"""The groups that a share is made of."""

LEAST = 0.05
"""Share of the counted cells that each of the index's groups must have."""


def missing_groups(shares: Mapping[str, float], groups: Mapping[str, str], *, least: float = LEAST) -> tuple[str, ...]:
    """The counted groups that the index has and the target, by its estimated class shares, does not.

    Args:
        shares: class -> share of the target's cells; classes without one have none.
        groups: class -> one of data.GROUPS, of every class of the index.
        least: share of the target's counted cells below which a group counts as missing. Calls err: an all-alive
            target has some cells called dead.

    Raises UsageError for a share of a class that the index does not have.
    """
    if unknown := sorted(set(shares) - set(groups)):
        raise UsageError(f"shares are given of {', '.join(unknown)}, which the index does not have")
    here = [group for group in COUNTED if group in groups.values()]
    found = {group: sum(shares.get(name, 0.0) for name, own in groups.items() if own == group) for group in here}
    whole = sum(found.values())
    return tuple(group for group in here if not whole > 0 or found[group] < least * whole)


def check_spans(shares: Mapping[str, float], groups: Mapping[str, str], *, least: float = LEAST) -> None:
    """Raises UsageError, saying what to do, where a target may not be aligned by types."""
    if missing := missing_groups(shares, groups, least=least):
        raise UsageError(
            f"hardly any of these cells are {' or '.join(missing)}: aligning by types would leave none callable",
            hint="align by mode states, or wait for cells of every group",
        )
