"""The figures as a table that a person reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cellvigil.bench.figures import Batch, Measured, Report
from cellvigil.bench.peak import SIDES

_HEADINGS = ("bundle", "precision", "device", "batch", "ms a batch", "a second", "GFLOP each", "of the peak", "memory")
_LEFT = 3  # columns of words; the others are figures


def table_of(report: Report) -> str:
    """Machine, a line for each batch size, and what the figures are measured against."""
    rows = [row for bundle in report.bundles if not bundle.error for row in _rows(bundle)]
    lines = [_machine(report), ""]
    if rows:
        lines += [*_aligned([_HEADINGS, *rows]), ""]
    lines += [*_peaks(report.bundles), *_notes(report.bundles)]
    return "\n".join(lines).rstrip()


def _machine(report: Report) -> str:
    here = report.machine
    gpus = ", ".join(f"{gpu.name} ({gpu.total_mb / 1024:.0f} GiB, driver {gpu.driver})" for gpu in here.gpus)
    versions = ", ".join(f"{name} {version}" for name, version in here.versions.items())
    return f"{here.cpu}, {here.cores} cores; {gpus or 'no GPU'}; {versions}"


def _rows(bundle: Measured) -> Iterator[tuple[str, ...]]:
    on = bundle.provider + (", recorded" if bundle.is_recorded else "")
    taken = "" if bundle.memory_mb is None else f"{bundle.memory_mb:.0f} MB"
    for place, batch in enumerate(bundle.batches):
        named, memory = ((bundle.name, bundle.precision, on), taken) if place == 0 else (("", "", ""), "")
        work = "" if batch.operations is None else f"{batch.operations / 1e9:.3g}"
        share = "" if batch.share is None else f"{batch.share:.1%}"
        speed = f"{batch.per_second:.4g} {batch.of}"
        yield *named, _size(batch), f"{batch.milliseconds:.4g}", speed, work, share, memory


def _size(batch: Batch) -> str:
    return f"{batch.size}" + (" (halved)" if batch.is_halved else "")


def _aligned(rows: Iterable[tuple[str, ...]]) -> list[str]:
    rows = list(rows)
    widths = [max(len(row[place]) for row in rows) for place in range(len(_HEADINGS))]
    return [
        "  ".join(
            cell.ljust(width) if place < _LEFT else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _peaks(bundles: Iterable[Measured]) -> Iterator[str]:
    peaks = {(each.provider, each.precision): each.peak for each in bundles if each.peak is not None}
    for (provider, precision), peak in peaks.items():
        side = " x ".join([str(SIDES[provider])] * 3)
        how = f"the fastest matrix product of {side} through onnxruntime, in this run"
        yield f"peak of {provider} in {precision}: {peak / 1e9:.4g} GFLOP/s ({how})"


def _notes(bundles: Iterable[Measured]) -> Iterator[str]:
    """What is not known, and why; what is said of several bundles is said once."""
    told: dict[str, list[str]] = {}
    for bundle in bundles:
        for note in filter(None, (bundle.device_note, *bundle.notes)):
            told.setdefault(note, []).append(bundle.name)
    for note, names in told.items():
        yield f"{', '.join(names)}: {note}"
