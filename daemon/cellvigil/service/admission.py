"""Whether an index and its encoders may work for a source as the configuration has it. Looks only."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

from cellvigil import config
from cellvigil.bundle.encoder import EncoderBundle
from cellvigil.bundle.index import ReferenceIndex, check_encoders
from cellvigil.bundle.licences import check_use
from cellvigil.bundle.ruled import ruled_bundle
from cellvigil.bundle.segmenter import SegmenterBundle
from cellvigil.errors import UsageError

_FINEST_FIRST = ("fp32", "fp16", "int8")


def admit(
    source: config.Source, wanted: config.Encoder, index: ReferenceIndex, encoders: Mapping[str, EncoderBundle]
) -> None:
    """An index, the encoders that are there by name, a source: they belong together, and may be used.

    Raises BundleError for an encoder that is missing, another, cannot look at the index's pictures, or has a licence
    that `encoder.licence_use` does not allow; UsageError for a source that does not wait for the index's channels.
    """
    check_encoders(index, encoders.values())
    for needed in index.encoders:
        bundle = encoders[needed.name]
        ruled_bundle(bundle, index.image_rule)
        check_use(f"encoder {bundle.name}", bundle.manifest, wanted.licence_use, where=bundle.folder)
    _check_channels(source, index)


def check_precision(bundles: Iterable[EncoderBundle | SegmenterBundle], wanted: config.Encoder) -> None:
    """No model may be coarser than `encoder.precision`. Raises UsageError that names those that are."""
    accepted = _FINEST_FIRST[: _FINEST_FIRST.index(wanted.precision) + 1]
    if wrong := [f"{bundle.name} ({bundle.precision})" for bundle in bundles if bundle.precision not in accepted]:
        raise UsageError(
            f"encoder.precision is {wanted.precision}, and coarser is {', '.join(wrong)}",
            where="encoder.precision",
            hint="export it in that precision, or change the key",
        )


def _check_channels(source: config.Source, index: ReferenceIndex) -> None:
    """No cell can be called without the channels that the index looks at: a frame must wait for all of them."""
    awaited, needed = source.channels.awaited, index.image_rule.channels
    lacking = [name for name in needed if name not in awaited]
    if not lacking:
        return
    near = [name for name in difflib.get_close_matches(lacking[0], awaited) if name not in needed]
    spelled = f" (is it the {near[0]!r} there?)" if near else ""
    if lacking[0] in source.channels.optional:
        spelled = " (as an optional channel it may be missing)"
    raise UsageError(
        f"index {index.name} looks at {', '.join(needed)}, and source {source.name} does not wait for "
        + ", ".join(lacking)
        + spelled,
        where=f"sources[{source.name}].channels.required",
        hint="list there every channel that the index looks at, as the microscope spells it",
    )
