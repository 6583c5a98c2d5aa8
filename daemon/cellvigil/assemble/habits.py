"""What a series' frames have in common, as its earlier ones tell: the channel that is awaited, the depth of a stack."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cellvigil import config
from cellvigil.assemble import slots
from cellvigil.assemble.timepoints import Series
from cellvigil.data import Slice


class Habits:
    """Learns from the frames of one source that were released."""

    def __init__(self, channels: config.Channels) -> None:
        self._channels = channels
        self._first_channel: dict[Series, str] = {}  # where no channel is configured
        self._stacks: dict[tuple[Series, str], frozenset[int]] = {}  # slices of the last stack of a channel

    def learn(self, series: Series, slices: Sequence[Slice]) -> None:
        """Take a released frame: the first one says which channel comes first, the last one how deep stacks are."""
        if slices:
            self._first_channel.setdefault(series, slices[0].channel)
        for channel, numbers in slots.depths(slices).items():
            self._stacks[series, channel] = numbers

    def deepen(self, series: Series, slices: Sequence[Slice]) -> None:
        """Take a frame that came again: it may show that stacks are deeper, but an old one may also be shallower."""
        for channel, numbers in slots.depths(slices).items():
            if numbers > self._stacks.get((series, channel), frozenset()):
                self._stacks[series, channel] = numbers

    def knows(self, series: Series) -> bool:
        """Whether there is anything to go by."""
        return series in self._first_channel

    def missing(self, series: Series, slices: Iterable[Slice]) -> tuple[str, ...]:
        """Awaited channels that are not there, the segmentation channel first."""
        there = {item.channel for item in slices}
        if "" in there:  # the names do not say: the content will
            return ()
        first = self._first_channel.get(series, "")
        awaited = self._channels.awaited or (() if self._channels.optional or not first else (first,))
        return tuple(name for name in awaited if name not in there)

    def is_deep(self, series: Series, channel: str, depths: frozenset[int], others: Iterable[frozenset[int]]) -> bool:
        """Whether a stack has all its slices: those of the last one, or before there is one those of another frame."""
        if (series, channel) in self._stacks:
            return depths >= self._stacks[series, channel]
        return depths in others
