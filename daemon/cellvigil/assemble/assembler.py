"""The frames of one source while their files come in.

A frame is released when its awaited channels are there, or when it has waited `frame_timeout_s` and has at least the
segmentation channel; without that one it is reported as stalled, and still released should it come. Rules:

- Channels. With `channels` configured only those named there are taken (others are told of once). With nothing
  configured the first channel of the series' first frame is awaited, and all others are taken as optional.
- Derived images (`Tsf[...]`, `Stitched[...]`). Only kinds in `derived` are taken; the segmentation channel is then
  waited for in that kind, other channels may be raw. Other kinds stand in only where no raw image came in time.
- Slices. A stack is whole when it has the slices of the last released stack of its channel; a series' first stack
  when two frames agree, or in the end by the timeout.
- Two files for one channel and slice: `slots.choose` says which is taken while the frame is being assembled;
  afterwards it is the one that was released. The other is told of.
- After the release. A slot that was empty comes as "late", a file with new size or date as "rewritten": the frame is
  returned again, whole, under its key; the caller makes it an attachment or a revision.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from cellvigil import config
from cellvigil.assemble import slots
from cellvigil.assemble.habits import Habits
from cellvigil.assemble.timepoints import Place, Round, Series, Timepoints, place_of
from cellvigil.data import FileStat, FrameFiles, FrameKey, Sighting, Slice

_NO_FILE = FileStat("", 0, 0)


@dataclass(slots=True)
class _Pending:
    """A frame that is being assembled."""

    first_seen: float
    files: dict[str, tuple[FileStat, Sighting]] = field(default_factory=dict)  # by path
    stalled: bool = False  # told of as stalled since its last file came


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one look at the frames brought, each in order of time, well and field."""

    frames: tuple[FrameFiles, ...]  # to be read
    stalled: tuple[FrameFiles, ...]  # timed out without a channel that must be there; released after all if it comes
    notes: tuple[str, ...]  # for the log: what was left out, and why


Recall = Callable[[FrameKey], Iterable[tuple[FileStat, Sighting]]]
"""The files of a committed frame; none if it is not committed."""


class Assembler:
    """Takes settled images, gives complete frames. Memory: about 1 kB a frame that is not committed yet.

    `known` are the time points given out before a restart, as (series, folder, number) -> ordinal. A frame that was
    committed is forgotten (`forget`) and asked for again (`recall`) when another file of it comes, so that a late
    channel or a new version of a file still finds its frame, after a restart too. Without the segmentation channel,
    or one of `needed` (by which cells are called), a frame is never released.
    """

    def __init__(
        self,
        source: config.Source,
        *,
        first_number: int,
        known: Mapping[tuple[Series, str, int], int] | None = None,
        recall: Recall = lambda _: (),
        needed: tuple[str, ...] = (),
    ) -> None:
        self._source = source
        self._needed = {*source.channels.awaited[:1], *needed}
        self._recall = recall
        self._timepoints = Timepoints(first_number, merged=source.series == "merge", known=known or {})
        self._pending: dict[Place, _Pending] = {}
        self._released: dict[Place, FrameFiles] = {}
        self._again: dict[Place, tuple[str, tuple[Slice, ...]]] = {}  # released frames to return again, and why
        self._habits = Habits(source.channels)
        self._ignored: set[tuple[Series, str]] = set()  # channels told of as not configured
        self._notes: list[str] = []

    def add(self, stat: FileStat, sighting: Sighting, now: float) -> None:
        """Take one settled, finished image. The same version of a file again changes nothing."""
        place = place_of(self._source.name, sighting)
        if not self._is_wanted(place, sighting):
            return
        fetched = place not in self._released and place not in self._pending and self._remember(place)
        if place in self._released:
            self._add_after(place, stat, sighting, now)
            if fetched and place not in self._again:
                del self._released[place]  # the file was nothing new
            return
        pending = self._pending.setdefault(place, _Pending(first_seen=now))
        if stat.path not in pending.files or pending.files[stat.path][0] != stat:
            pending.files[stat.path] = (stat, sighting)
            pending.stalled = False

    def collect(self, now: float) -> Outcome:
        """The frames that are ready by now."""
        places = sorted(self._pending, key=lambda place: place.order)
        ready = [
            (place, replace(self._released[place], change=change, fresh=fresh))
            for place, (change, fresh) in self._again.items()
        ]
        self._again.clear()
        keys = [self._key(place) for place in places]
        stalled: list[FrameFiles] = []
        for place, key in zip(places, keys, strict=True):
            files = self._judge(place, key, now)
            if files is None:
                continue
            if not self._needed.isdisjoint(files.missing):  # nothing to segment, or to call cells by
                self._pending[place].stalled = True
                stalled.append(files)
            else:
                self._release(place, files)
                ready.append((place, files))
        ready.sort(key=lambda item: item[0].order)
        notes, self._notes = tuple(self._notes), []
        return Outcome(tuple(files for _, files in ready), tuple(stalled), notes)

    def resume(self, key: FrameKey, files: Iterable[tuple[FileStat, Sighting]]) -> None:
        """Take a frame that was committed before a restart: its time point holds, and its files are not new.

        A frame that was committed in several parts (a late channel) may be given part by part.
        """
        parts = list(files)
        if not parts:
            return
        place = place_of(self._source.name, parts[0][1])
        self._timepoints.keep(place.round, key.timepoint)
        before = self._released[place].slices if place in self._released else ()
        by_path = {item.stat.path: item for item in before}
        by_path |= {stat.path: Slice(sighting.channel, sighting.z, stat) for stat, sighting in parts}
        slices = slots.in_order(by_path.values())
        folder, number = place.round.folder, place.round.number
        missing = self._habits.missing(place.round.series, slices)
        waited = self._pending.get(place)
        self._pending.pop(place, None)
        self._released[place] = FrameFiles(key, slices, missing, folder=folder, number=number)
        if not self.knows(place.round.series):  # else what was released since says more than an old frame
            self._habits.learn(place.round.series, slices)
        for stat, sighting in waited.files.values() if waited else ():
            self.add(stat, sighting, waited.first_seen if waited else 0.0)  # it came before its frame was remembered

    def forget(self, files: FrameFiles) -> None:
        """Let go of a released frame: it is committed, or was lost before it was read."""
        place = _place_of(files)
        if place not in self._again:
            self._released.pop(place, None)

    def reconsider(self, paths: Collection[str]) -> tuple[FrameFiles, ...]:
        """The released frames with one of these files; a stalled one is judged anew."""
        for pending in self._pending.values():
            if any(path in pending.files for path in paths):
                pending.stalled = False
        wanted = set(paths)
        frames = self._released.values()
        return tuple(files for files in frames if any(item.stat.path in wanted for item in files.slices))

    def leave_out(self, files: FrameFiles, paths: Collection[str]) -> None:
        """A released frame goes its way without these of its files: should they come again, they are late."""
        place = _place_of(files)
        if (released := self._released.get(place)) is not None:
            slices = tuple(item for item in released.slices if item.stat.path not in paths)
            missing = self._habits.missing(place.round.series, slices)
            self._released[place] = replace(released, slices=slices, missing=missing)

    def learn(self, series: Series, first: Iterable[Sighting], last: Iterable[Sighting]) -> None:
        """What a series' first and last frame before a restart say of the others: the channel awaited, the depths."""
        for frame in (first, last):
            self._habits.learn(series, slots.in_order(Slice(s.channel, s.z, _NO_FILE) for s in frame))

    def knows(self, series: Series) -> bool:
        """Whether a frame of the series was released, or learned of."""
        return self._habits.knows(series)

    def out_of_sight(self, seconds: float) -> None:
        """The folder could not be seen for so long: that time does not count for any frame that waits."""
        for pending in self._pending.values():
            pending.first_seen += seconds

    def prune(self, listed: Collection[str]) -> None:
        """Forget what is not `listed` any more (paths as scanned; parts go by their container).

        A frame goes with its last file; one that waits goes on without a file that is gone.
        """

        def is_listed(path: str) -> bool:
            return path in listed or path.partition("!")[0] in listed

        for place in [
            p for p, files in self._released.items() if not any(is_listed(s.stat.path) for s in files.slices)
        ]:
            del self._released[place]
            self._again.pop(place, None)
        for place, pending in list(self._pending.items()):
            for path in [path for path in pending.files if not is_listed(path)]:
                del pending.files[path]
                self._notes.append(f"{path} is gone before its frame was complete")
            if not pending.files:
                del self._pending[place]

    @property
    def waiting(self) -> int:
        """Frames that are not complete yet."""
        return len(self._pending)

    def _remember(self, place: Place) -> bool:
        """Bring a committed frame back; whether the place has one."""
        timepoint = self._timepoints.known(place.round)
        if timepoint is None:
            return False
        key = FrameKey(*place.round.series, place.well, place.field, timepoint)
        self.resume(key, self._recall(key))
        return place in self._released

    def _is_wanted(self, place: Place, sighting: Sighting) -> bool:
        channels = self._source.channels
        listed = (*channels.awaited, *channels.optional)
        if not listed or not sighting.channel or sighting.channel in listed:
            return True
        series = place.round.series
        if (series, sighting.channel) not in self._ignored:
            self._ignored.add((series, sighting.channel))
            self._notes.append(f"channel {sighting.channel!r} of {'/'.join(series)} is not configured: it is left out")
        return False

    def _key(self, place: Place) -> FrameKey:
        ordinal, note = self._timepoints.of(place.round)
        if note:
            self._notes.append(note)
        return FrameKey(*place.round.series, place.well, place.field, ordinal)

    def _judge(self, place: Place, key: FrameKey, now: float) -> FrameFiles | None:
        """The frame if it is complete or out of time; None while it waits, or when it was told of as stalled."""
        pending = self._pending[place]
        if pending.stalled:
            return None
        late = now - pending.first_seen >= self._source.frame_timeout_s
        choice = slots.choose(pending.files.values(), self._source.derived, stand_ins=late)
        missing = self._habits.missing(place.round.series, choice.slices)
        if not late and (not choice.slices or missing or not self._is_whole(place, choice)):
            return None
        self._notes += choice.notes
        folder, number = place.round.folder, place.round.number
        return FrameFiles(key, choice.slices, missing, pending.first_seen, folder, number)

    def _is_whole(self, place: Place, choice: slots.Choice) -> bool:
        """Whether the stacks are whole and the segmentation channel is of the kind asked for."""
        kinds = self._source.derived
        segment = (self._source.channels.awaited or (choice.slices[0].channel,))[0]
        if kinds and choice.derived.get(segment, kinds[0]) not in kinds:
            return False

        def others(channel: str) -> Iterator[frozenset[int]]:
            for other, pending in self._pending.items():
                if other != place and other.round.series == place.round.series:
                    files = pending.files.values()
                    yield frozenset(s.z for _, s in files if s.channel == channel and s.z is not None)

        depths = slots.depths(choice.slices).items()
        return all(self._habits.is_deep(place.round.series, channel, zs, others(channel)) for channel, zs in depths)

    def _release(self, place: Place, files: FrameFiles) -> None:
        self._pending.pop(place, None)
        self._released[place] = files
        self._habits.learn(place.round.series, files.slices)

    def _add_after(self, place: Place, stat: FileStat, sighting: Sighting, now: float) -> None:
        """A file of a frame that was released: known, rewritten, late, or one too many."""
        files = self._released[place]
        known = next((item for item in files.slices if item.stat.path == stat.path), None)
        if known is not None and known.stat == stat:
            return
        if known is None and slots.stands_in(sighting.derived, self._source.derived):
            return
        if known is None and any((item.channel, item.z) == (sighting.channel, sighting.z) for item in files.slices):
            self._notes.append(f"{stat.path} is left out: the same image was taken from another file before")
            return
        kept = [item for item in files.slices if item is not known]
        came = Slice(sighting.channel, sighting.z, stat)
        slices = slots.in_order((*kept, came))
        missing = self._habits.missing(place.round.series, slices)
        self._released[place] = replace(files, slices=slices, missing=missing, first_seen=now)
        self._habits.deepen(place.round.series, slices)
        before, fresh = self._again.get(place, ("late", ()))
        # A rewritten file outweighs a late one: it can change what the frame's cells were called.
        change = "rewritten" if known is not None else before
        others = (item for item in fresh if item.stat.path != stat.path)
        self._again[place] = (change, slots.in_order((*others, came)))


def _place_of(files: FrameFiles) -> Place:
    return Place(Round(files.key.series, files.folder, files.number), files.key.well, files.key.field)
