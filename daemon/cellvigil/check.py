"""`cellvigil check`: everything that can be known before the assay starts, found out without touching anything.

Promise 8 of DESIGN.md: it says whether this machine keeps up (wells x fields x cells / interval against the cells a
second that it measures) and refuses above `limits.max_load`.
"""

from __future__ import annotations

import difflib
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from cellvigil import access, config, page, watch
from cellvigil.bundle.licences import told_licences
from cellvigil.check_alignment import alignment_findings
from cellvigil.check_assay import assay_findings
from cellvigil.check_capacity import Field, capacity_findings
from cellvigil.check_store import store_findings
from cellvigil.data import FileStat
from cellvigil.errors import BadFile, CellvigilError, NotYet
from cellvigil.service.opening import Bundles, Kitchen, open_bundles, open_kitchen, warnings_of
from cellvigil.sources.protocol import SourceFormat
from cellvigil.sources.registry import format_of

_NAMES_SHOWN = 3
_ENOUGH = 5000  # listed files that tell whether names fit


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    level: str  # "ok", "warn" or "fail"
    subject: str  # what was looked at
    text: str  # what was found, and what to do

    def __str__(self) -> str:
        return f"{self.level:4}  {self.subject:12}  {self.text}"

    def as_dict(self) -> dict[str, str]:
        """Plain values for JSON."""
        return asdict(self)


def check(settings: config.Config, *, force: bool = False) -> list[Finding]:
    """Look at everything; never raises for what it finds, and never writes."""
    findings = [Finding("ok", "config", f"valid, {settings.sha256[:12]}")]
    fields: dict[str, Field] = {}
    for source in settings.sources:
        findings += _source(source, settings, fields)
        findings += (Finding(level, source.name, text) for level, text in assay_findings(source, settings))
    try:
        bundles = open_bundles(settings, rehash=True)
        findings += _bundles(settings, bundles)
        for source in settings.sources:
            aligned = alignment_findings(source, settings, bundles.indexes[source.name])
            findings += (Finding(level, source.name, text) for level, text in aligned)
        kitchen = open_kitchen(settings, bundles, writes=False)
        findings.append(_device(kitchen, settings))
        findings += (Finding(*found) for found in capacity_findings(settings, kitchen, fields, force=force))
    except CellvigilError as error:
        findings.append(Finding("fail", "encoders", str(error)))
    findings += (Finding(level, "store", text) for level, text in store_findings(settings.store))
    findings += _door(settings.metrics)
    return findings


def _source(source: config.Source, settings: config.Config, fields: dict[str, Field]) -> Iterator[Finding]:
    """Its folder and its images; what the first one shows is noted in `fields`."""
    subject = source.name
    fmt = format_of(source, settings.limits)
    try:
        listing = [stat for _, stat in sorted(watch.scan(source.path, fmt.suffixes).items())]
    except CellvigilError as error:
        yield Finding("fail", subject, str(error))
        return
    if not listing:
        yield Finding("ok", subject, f"{source.path} is there and holds no image yet: names and scale not tried")
        return
    good, bad = _names(fmt, listing[:_ENOUGH])
    if bad:
        shown = "; ".join(bad[:_NAMES_SHOWN])
        level = "warn" if good else "fail"
        yield Finding(level, subject, f"{len(bad)} of {len(listing)} names do not fit kind {source.kind}: {shown}")
    if good:
        yield Finding("ok", subject, f"{len(good)} images in {source.path} fit kind {source.kind}")
        yield from _channels(source, fmt, good)
        yield _sample(source, fmt, good, fields)


def _channels(source: config.Source, fmt: SourceFormat, good: list[FileStat]) -> Iterator[Finding]:
    """Whether the configured channels are among those that the names tell of."""
    sightings = (fmt.sight(stat.path) for stat in good)
    there = {sighting.channel for sighting in sightings if sighting is not None and sighting.channel}
    for name in source.channels.awaited if there else ():
        if name not in there:
            near = difflib.get_close_matches(name, there, n=1, cutoff=0.0)[0]
            level = "fail" if name == source.channels.segment else "warn"
            listed = ", ".join(sorted(there))
            yield Finding(
                level, source.name, f"no image has channel {name!r}, did you mean {near!r}? There are: {listed}"
            )


def _names(fmt: SourceFormat, listing: list[FileStat]) -> tuple[list[FileStat], list[str]]:
    good: list[FileStat] = []
    bad: list[str] = []
    for stat in listing:
        try:
            if fmt.sight(stat.path) is not None:
                good.append(stat)
        except BadFile as error:
            bad.append(str(error))
    return good, bad


def _sample(source: config.Source, fmt: SourceFormat, good: list[FileStat], fields: dict[str, Field]) -> Finding:
    """Read the first image that is whole: its size and scale."""
    for stat in good[:20]:
        try:
            fmt.finished(source.path, stat.path)
            part = fmt.expand(source.path, stat)[0]
            plane = fmt.read(source.path, part.path)
        except NotYet:
            continue
        except BadFile as error:
            return Finding("warn", source.name, f"the first image cannot be read: {error}")
        scale = source.pixel_size_um or plane.pixel_size_um
        if scale is None:
            return Finding("fail", source.name, f"{stat.path} carries no pixel size: set sources[].pixel_size_um")
        fields[source.name] = (plane.pixels.shape[1] * scale[0], plane.pixels.shape[2] * scale[1])
        shape = " x ".join(str(side) for side in plane.pixels.shape[1:])
        return Finding("ok", source.name, f"an image is {shape} pixels of {scale[0]:.4f} x {scale[1]:.4f} um")
    return Finding("warn", source.name, "no image is finished yet: scale not tried")


def _bundles(settings: config.Config, bundles: Bundles) -> Iterator[Finding]:
    for name, index in bundles.indexes.items():
        counts = ", ".join(f"{c} {n}" for c, n in zip(index.classes, index.class_counts, strict=True))
        yield Finding("ok", "index", f"{name}: {index.name} {index.sha256[:12]} ({counts})")
    for bundle in bundles.encoders.values():
        told = f"{bundle.name} {bundle.sha256[:12]}, hashes verified; {told_licences(bundle.manifest)}"
        yield Finding("ok", "encoder", told)
    if (sam := bundles.segmenter) is not None:
        told = f"{sam.name} {sam.sha256[:12]}, hashes verified; {told_licences(sam.manifest)}"
        yield Finding("ok", "segmenter", told)
    for text in warnings_of(settings, bundles):
        about, _, rest = text.partition(": ")
        yield Finding("warn", "store", rest) if about == "store" else Finding("warn", "index", text)


def _device(kitchen: Kitchen, settings: config.Config) -> Finding:
    note = f": {kitchen.device_note}" if kitchen.device_note else ""
    asked = settings.encoder.device
    level = "warn" if asked == "auto" and kitchen.provider == "cpu" else "ok"
    return Finding(level, "device", f"{kitchen.provider} (asked for {asked}){note}")


def _door(metrics: config.Metrics) -> Iterator[Finding]:
    """The port, and what guards it."""
    try:
        access.read_token(metrics.token_file)
        access.open_tls(metrics.tls_cert_file, metrics.tls_key_file)
    except CellvigilError as error:
        yield Finding("fail", "metrics", str(error))
        return
    yield from (Finding("warn", "metrics", text) for text in access.warnings_of(metrics))
    yield _port(metrics)


def _port(metrics: config.Metrics) -> Finding:
    with socket.socket() as door:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind((metrics.listen, metrics.port))
        except OSError as error:
            text = f"cannot listen on {metrics.listen}:{metrics.port}: {error.strerror}; {page.hint_of(error)}"
            return Finding("fail", "metrics", text)
    scheme = "https" if metrics.tls_cert_file else "http"
    guard = ", a token is asked for" if metrics.token_file else ""
    return Finding("ok", "metrics", f"{scheme}://{metrics.listen}:{metrics.port}/metrics is free{guard}")
