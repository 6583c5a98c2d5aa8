"""What the page shows beside the tally's figures. Pure values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from cellvigil.data import UNKNOWN, FrameKey

# Okabe and Ito's colours, which the colour-blind tell apart, too; several classes of a group get paler ones.
GROUP_COLOURS = {
    "alive": ("#009E73", "#66C5AB"),
    "dying": ("#E69F00", "#F0C566"),
    "dead": ("#D55E00", "#E69E66"),
    "artefact": ("#56B4E9", "#9AD2F2"),
    "none": ("#CC79A7", "#E0AFCA"),
}
UNKNOWN_COLOUR = "#999999"


@dataclass(frozen=True, slots=True)
class Watched:
    """One source, as the service sees it now."""

    name: str
    up: bool  # its folder can be listed
    last_frame: datetime | None  # aware, UTC: when a frame was last committed; None = never
    interval_s: float | None  # expected between two time points
    backlog: int  # frames that are complete and not committed
    waiting: int  # files that belong to no complete frame
    zone: tzinfo = UTC  # of the microscope's clock
    refused: int = 0  # frames and files, since the service began
    scan_s: float = 0.0  # duration of the last look at its folder
    plate_map_up: bool = True  # its plate map can be used as it is
    events_up: bool = True  # its events can
    alignment: str = ""  # how its index is aligned, in words; "" = it is not, nor shall be
    fit_failed: bool = False  # no fit could be taken: calls go on unaligned
    drifted: bool = False  # its control wells have come too far from where they were at the fit


@dataclass(frozen=True, slots=True)
class Machine:
    """The service and the machine that it runs on."""

    version: str
    heartbeat_age_s: float
    device: str
    degraded: bool  # an encoder fell back to the CPU after its device failed
    paused: str  # why writing waits; "" = it does not
    floor_h: float  # hours until the store's disk is down to its floor; inf = nothing grows, NaN = not known yet
    sources: tuple[Watched, ...]
    tally_age_s: float = 0.0  # since counts and response were last worked out
    tally_up: bool = True  # every plate's figures could be made
    left_out: int = 0  # wells beyond metrics.max_wells
    to_be_deleted: bool = False  # retention has announced a deletion


@dataclass(frozen=True, slots=True)
class LastFrame:
    """The frame that was committed last, in words."""

    key: FrameKey
    acquired_at: datetime  # aware, UTC
    outcome: str  # "counted" or "excluded"
    groups: Mapping[str, str]  # class -> group, of the index that called it
    cells: Mapping[str, int]  # state -> cells that were called so, those at the border left out
    edge: int  # cells at the border

    @property
    def colours(self) -> dict[str, str]:
        """The colour of each state."""
        return colours_of((*self.groups, UNKNOWN), self.groups)


def colours_of(states: tuple[str, ...], groups: Mapping[str, str]) -> dict[str, str]:
    """A colour ("#rrggbb") for each state, by its group."""
    found: dict[str, str] = {}
    used: dict[str, int] = {}
    for state in states:
        group = groups.get(state, "")
        shades = GROUP_COLOURS.get(group, (UNKNOWN_COLOUR,))
        place = used.get(group, 0)
        used[group] = place + 1
        found[state] = shades[place % len(shades)]
    return found
