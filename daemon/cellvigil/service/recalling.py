"""Stored cells called again, from their stored embeddings, by the index that is in force now; the old calls stay.

Writes through `Store.append_calls`, frame by frame: each is committed or not, so a kill in between loses nothing, and
who goes on finds what is done already. Which cells count, and which frames are left out, stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

from cellvigil import decide, pipeline
from cellvigil.bundle.origin import aligned_from
from cellvigil.errors import StoreError, StoreFull
from cellvigil.ledger import CommittedFrame, Ledger, Series
from cellvigil.pipeline import Recipe
from cellvigil.service.log import LOGGER
from cellvigil.store.gone import folder_of
from cellvigil.store.vectors import has_vectors, read_vectors
from cellvigil.store.writer import Store

CALLED, BEFORE, GONE, FAILED = "recalled", "called_before", "embeddings_gone", "recall_failed"


def due(
    ledger: Ledger, series: Series, *, only: Collection[str] = (), but: Collection[str] = ()
) -> Iterator[CommittedFrame]:
    """The frames of a plate (their last revision) whose calls are those of an index among `only` (of any, if empty),
    and of none among `but`, newest first; indexes by their sha256.

    Newest first, so that a well's values are at every moment those of one index, and before some time point those of
    another: one baseline ends there, and no more.
    """
    newest = {frame.key: frame for frame in ledger.frames(series)}
    for frame in sorted(newest.values(), key=lambda one: (one.key.timepoint, one.key), reverse=True):
        called = ledger.calls(frame.key, frame.revision)
        if called is None or called[0] in but or (only and called[0] not in only):
            continue
        if not ledger.is_lost(frame.key, frame.revision):
            yield frame


def recall(store: Store, frame: CommittedFrame, recipe: Recipe) -> str:
    """Call one frame's cells again; returns CALLED, GONE (retention has deleted what that takes) or FAILED (told).

    Raises StoreFull where there is no room: nothing has changed then.
    """
    series, index = frame.key.series, recipe.index
    dropped = store.ledger.dropped(series, frame.t)
    if "measurements" in dropped or not has_vectors(frame, dropped):
        return GONE
    try:
        vectors = read_vectors(folder_of(store.path, series), frame, index.encoders, dropped=dropped)
        store.append_calls(
            frame,
            pipeline.call(vectors, recipe),
            index.classes,
            index.groups,
            decide.confusion_of(index, recipe.settings, recipe.rejection),
            confusion_overridden=decide.overrides(index, recipe.settings, recipe.rejection),
            aligned_from=aligned_from(index),
        )
    except StoreFull:
        raise
    except (StoreError, ValueError) as error:  # ValueError: retention was quicker
        LOGGER.warning("a frame cannot be called again", extra={"frame": str(frame.key), "why": str(error)})
        return FAILED
    return CALLED


def recall_all(store: Store, recipes: Mapping[str, Recipe], going: Callable[[], bool]) -> dict[str, int]:
    """Call every frame of the store again that the index in force for its source has not called; while `going()`.

    Returns frames by what came of them, "called_before" those that needed nothing. Plates of sources that are not
    configured are left alone. Raises StoreError (StoreFull): what was done stands, and the next run goes on.
    """
    done = dict.fromkeys((CALLED, BEFORE, GONE, FAILED), 0)
    ledger = store.ledger
    for series in ledger.series():
        recipe = recipes.get(series[0])
        if recipe is None:
            continue
        waiting = list(due(ledger, series, but={recipe.index.sha256}))
        done[BEFORE] += len({frame.key for frame in ledger.frames(series)}) - len(waiting)
        for one in waiting:
            if not going():
                return done
            done[recall(store, one, recipe)] += 1
        store.publish(series)
    if done[GONE]:
        LOGGER.warning("frames keep their calls: retention has deleted their embeddings", extra={"frames": done[GONE]})
    return done
