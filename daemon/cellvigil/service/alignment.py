"""One source's alignment while the service runs: warm-up, fit, swap.

    waiting --(enough cells of untouched wells)--> a fit runs, as a process of its own
        accepted and verified --> kept (durable), swapped in between two frames; frames from before are called again
        else --> failed: unaligned calls go on; tried again when twice the cells are there, twice at most

A fit that is kept stands for all later plates of the source, and through restarts, until a person asks for another one
(`cellvigil align --refit`) or changes the index or what was asked of the alignment: nothing is refitted silently. After
a refit the plates that run begin a new baseline: frames that the earlier alignment called keep their calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from cellvigil import config
from cellvigil.bundle.files import VERIFIED
from cellvigil.bundle.reference import ReferenceIndex
from cellvigil.errors import BundleError, CellvigilError, UsageError
from cellvigil.metrics import AlignmentMetrics
from cellvigil.pipeline import Recipe
from cellvigil.service.catching_up import CatchingUp
from cellvigil.service.control_wells import ControlWells
from cellvigil.service.fit_basis import arguments, basis_of, room_for
from cellvigil.service.fits import Failed, Fits, Kept
from cellvigil.service.fitted import open_fit
from cellvigil.service.fitting import Fitting
from cellvigil.service.lasting import Lasting
from cellvigil.service.log import LOGGER
from cellvigil.service.opening import recipe_of
from cellvigil.service.recipes import Recipes, lenient, marked
from cellvigil.service.segmenting import found_as
from cellvigil.service.warmup import WarmUp, warm_up
from cellvigil.store.lines import utc
from cellvigil.store.vectors import vectors_of
from cellvigil.store.writer import Store

WAITING, ALIGNED, FAILED = "waiting", "aligned", "failed"

_ATTEMPTS = 3  # fits that may fail in a row before a person must ask
_MORE = 2  # times the cells, after one that failed


@dataclass(frozen=True, slots=True, eq=False)
class House:
    """What every source's alignment works with."""

    settings: config.Config
    store: Store
    recipes: Recipes
    encoders: Mapping[str, Lasting]  # by name
    metrics: AlignmentMetrics


@dataclass(frozen=True, slots=True, eq=False)
class _Begun:
    """A fit that is under way."""

    fitting: Fitting
    number: int
    warm: WarmUp
    answers: str


class SourceAlignment:
    """One source's. `begin` first; then `look` from one thread; `status`, `text` and `drifted` from any."""

    def __init__(self, source: config.Source, house: House) -> None:
        name, store, metrics = source.name, house.store, house.metrics
        self._source = source
        self._house = house
        self._base: Recipe = house.recipes[name]
        self._basis = basis_of(source, self._base.index)
        self._fits = Fits(house.settings.state_dir, name)
        self._controls = ControlWells(source, store, self._base.index.encoders, metrics)
        self._catching_up = CatchingUp(name, store, metrics)
        self._kept: Kept | None = None
        self._begun: _Begun | None = None
        self._seen = -1  # of the ledger's changes
        self.status = WAITING
        self.text = ""  # how it stands, for a person
        metrics.failures.labels(name)  # from 0 on: an alert on an increase misses one that begins at 1
        metrics.recalled.labels(name)

    @property
    def drifted(self) -> bool:
        """Whether control wells have come too far from where they were at the fit."""
        return self._controls.beyond

    @property
    def busy(self) -> bool:
        """Whether a fit runs or frames wait to be called again."""
        return self._begun is not None or self._catching_up.busy

    def begin(self, now: datetime) -> None:
        """Take up the fit that is kept, or mark the calls as unaligned. Before any frame is handed out.

        Raises BundleError where the aligned index that calls were made by is gone or altered, and no new fit is asked
        for; StoreError where what is kept of it cannot be read.
        """
        name, kept = self._source.name, self._fits.kept()
        if kept is not None and dict(kept.basis) != self._basis:
            what = "the index, or sources[].align, is another than at the fit: it is fitted anew, after a new warm-up"
            LOGGER.warning(what, extra={"source": name, "fit": kept.number})
            kept = None
        self._unaligned()
        if kept is None:
            return
        try:
            self._swap(kept, self._opened(kept.number, kept.sha256), now)
        except CellvigilError as error:
            if self._fits.asked() in ("", kept.answers):
                what = f"the aligned index of source {name} cannot be used: {error.what}"
                hint = f"bring it back, or have it fitted anew: cellvigil align --refit {name}"
                raise BundleError(what, where=error.where, hint=hint) from error
            LOGGER.warning("the aligned index cannot be used; a new fit is asked for", extra={"why": str(error)})

    def look(self, now: datetime, seconds: float) -> None:
        """Do what is next; `now` is aware, UTC. Calls frames again for `seconds` at most.

        Raises StoreError (StoreFull) and OSError for a disk that fails: call it again.
        """
        if self._begun is not None and (code := self._begun.fitting.poll()) is not None:
            self._end(code, now)
        changes = self._house.store.ledger.changed(max(self._seen, 0))[0]
        changed, self._seen = changes != self._seen, changes
        if self._begun is None and (wanted := self._wanted()) is not None:
            self._warm_up(wanted)
        if self._kept is not None:
            if changed:
                self._controls.look()
                self._catching_up.look(self._base.index.sha256, now)
            self._catching_up.work(self._house.recipes[self._source.name], seconds)

    def wait(self, seconds: float) -> None:
        """Let a fit that runs go on for so long."""
        if self._begun is not None:
            self._begun.fitting.wait(seconds)

    def close(self) -> None:
        """Stop a fit that runs; it is begun anew at the next start."""
        if self._begun is not None:
            self._begun.fitting.stop()
            self._begun = None

    def _wanted(self) -> int | None:
        """The cells that the next fit needs; None where no fit is due."""
        asked, failed = self._fits.asked(), self._fits.failed()
        if self._kept is not None and asked in ("", self._kept.answers):
            return None
        least = self._source.align.warm_up_cells
        if failed is None or dict(failed.basis) != self._basis or failed.answers != asked:
            return least
        return None if failed.attempts >= _ATTEMPTS else max(least, _MORE * failed.cells)

    def _warm_up(self, wanted: int) -> None:
        """See what cells there are, and begin the fit with enough."""
        align, index, store = self._source.align, self._base.index, self._house.store
        groups = sorted({group for group in index.groups.values() if group not in ("none", "artefact")})
        holds = vectors_of(store.path, index.encoders)
        warm = warm_up(store.ledger, self._source.name, align, wanted, groups, holds=holds)
        self._house.metrics.cells.labels(self._source.name).set(warm.cells)
        if warm.cells < wanted or warm.lacking:
            lacking = f", and hardly any cell is called {', '.join(warm.lacking)}" if warm.lacking else ""
            self._say(f"{warm.cells} of {wanted} cells of untouched wells are there for a fit{lacking}")
            return
        asked = self._fits.asked()
        number = self._fits.prepare(((frame.key, frame.revision) for frame in warm.frames), room_for(index))
        words = arguments(self._basis, index, store.path, self._fits, number)
        self._begun = _Begun(Fitting.begin(words, self._fits.log(number)), number, warm, asked)
        self._say(f"a fit on {warm.cells} cells runs")
        told = {"source": self._source.name, "cells": warm.cells, "frames": len(warm.frames), "asked_for": asked or "-"}
        LOGGER.info("alignment: the fit begins", extra=told)

    def _end(self, code: int, now: datetime) -> None:
        """Take what a fit has made into use, or say why not.

        A fit is under way until what came of it is written down: with a full disk that is tried again, not the fit.
        """
        begun = self._begun
        if begun is None:
            return
        if code != 0:
            self._fail(begun.fitting.why(), begun)
            return
        try:
            index = self._opened(begun.number)
        except (BundleError, UsageError) as error:
            self._fail(str(error), begun)
            return
        kept = Kept(
            number=begun.number,
            sha256=index.sha256,
            basis=self._basis,
            at=utc(now),
            cells=begun.warm.cells,
            answers=begun.answers,
            hold=self._controls.measured(begun.warm),
        )
        self._fits.keep(kept)
        self._begun = None
        self._swap(kept, index, now)
        told = {"source": self._source.name, "bundle": index.sha256[:12], "cells": kept.cells}
        LOGGER.info("alignment: the fit is taken", extra=told)

    def _fail(self, why: str, begun: _Begun) -> None:
        before = self._fits.failed()
        same = before is not None and dict(before.basis) == self._basis and before.answers == begun.answers
        attempts = 1 + (before.attempts if before is not None and same else 0)
        self._fits.fail(Failed(attempts, begun.warm.cells, why, self._basis, begun.answers))
        self._begun = None
        self._house.metrics.failures.labels(self._source.name).inc()
        unaligned = "the one before stays in force" if self._kept else "calls go on unaligned"
        extra = {"source": self._source.name, "why": why, "attempt": attempts, "log": str(self._fits.log(begun.number))}
        LOGGER.error(f"alignment: the fit failed; {unaligned}", extra=extra)
        if self._kept is None:
            self._unaligned()
        else:
            self._say(f"a new fit failed ({why}); the one before stays in force")

    def _unaligned(self) -> None:
        """From now on cells are called by the index as it is, and their record says so."""
        failed = self._fits.failed()
        status = FAILED if failed is not None and dict(failed.basis) == self._basis else WAITING
        self.status = status
        recipe = lenient(self._base) if status == WAITING else self._base
        self._house.recipes.swap(self._source.name, marked(recipe, {"alignment": status}))
        self._say(failed.why if failed is not None and status == FAILED else "no fit yet")

    def _opened(self, number: int, sha256: str = "") -> ReferenceIndex:
        """The aligned index of a fit. Raises BundleError as `open_fit` does."""
        house = self._house
        memory = house.settings.state_dir / VERIFIED
        bundles = [encoder.bundle for encoder in house.encoders.values()]
        return open_fit(self._fits.bundle(number), self._base.index, bundles, sha256=sha256, memory=memory)

    def _swap(self, kept: Kept, index: ReferenceIndex, now: datetime) -> None:
        """From now on cells are called by the aligned index."""
        house, name = self._house, self._source.name
        recipe = recipe_of(self._source, house.settings, index, house.encoders, found_as(self._base))
        house.recipes.swap(name, marked(recipe, {"alignment": ALIGNED, "aligned_from": self._base.index.sha256}))
        self._kept, self.status, self._seen = kept, ALIGNED, -1
        self._controls.hold(kept.hold)
        self._catching_up.begin(now)
        self._say(f"fitted on {kept.cells} cells at {kept.at[:16]}Z")

    def _say(self, text: str) -> None:
        self.text = f"{self.status}: {text}"
        bundle = self._house.recipes[self._source.name].index.sha256
        self._house.metrics.show(self._source.name, self.status, bundle)
