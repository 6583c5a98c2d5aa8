"""Which bundles are measured, and each in a fresh process: one that runs out of memory ends nothing but itself, and the
memory that a bundle took is its own.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

from cellvigil.bench.figures import Measured, Report, Wanted
from cellvigil.bench.machine import machine
from cellvigil.bench.measuring import measure
from cellvigil.bundle.files import MANIFEST
from cellvigil.errors import UsageError


def bundles_in(folder: Path, names: Sequence[str] = ()) -> list[Path]:
    """The folders of the bundles in `folder`, by name; only those of `names` where some are given.

    Raises UsageError where there is none, or one that is named is not there.
    """
    there = {path.parent.name: path.parent for path in sorted(folder.glob(f"*/{MANIFEST}"))}
    if not there:
        hint = "make one with `cellvigil-export run`, or name another folder with --encoders"
        raise UsageError("there is no encoder bundle", where=folder, hint=hint)
    if missing := [name for name in names if name not in there]:
        hint = f"there are: {', '.join(there)}"
        raise UsageError(f"there is no bundle {', '.join(missing)}", where=folder, hint=hint)
    return [there[name] for name in dict.fromkeys(names or there)]


def bench(folders: Iterable[Path], wanted: Wanted, *, told: Callable[[str], None] = lambda _: None) -> Report:
    """Measure the bundles one after the other; `told` gets the name of each as its turn comes."""
    found = []
    for folder in folders:
        told(folder.name)
        found.append(_in_a_process(folder, wanted))
    return Report(machine(), wanted, with_shares(found))


def with_shares(found: Sequence[Measured]) -> tuple[Measured, ...]:
    """Each batch with its share of its device's peak: of the best one measured, as a busy machine only lowers them."""
    peaks: dict[tuple[str, str], float] = {}
    for bundle in found:
        if bundle.peak is not None:
            key = (bundle.provider, bundle.precision)
            peaks[key] = max(bundle.peak, peaks.get(key, 0.0))
    return tuple(_with_share(bundle, peaks.get((bundle.provider, bundle.precision))) for bundle in found)


def _with_share(bundle: Measured, peak: float | None) -> Measured:
    batches = tuple(
        replace(batch, share=batch.per_second * batch.operations / peak) if peak and batch.operations else batch
        for batch in bundle.batches
    )
    return replace(bundle, peak=peak, batches=batches)


def _in_a_process(folder: Path, wanted: Wanted) -> Measured:
    # Spawned, not forked: CUDA does not survive a fork, and a fork would bring this process's memory along.
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawned, initializer=_end_quietly) as pool:
        try:
            return pool.submit(measure, folder, wanted).result()
        except BrokenProcessPool:
            why = "its process ended before it was measured: too little memory, or a fault in a library"
            return Measured(folder.name, error=f"{why} ({folder})")


def _end_quietly() -> None:
    """Ctrl-C is answered by the process that started this one."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
