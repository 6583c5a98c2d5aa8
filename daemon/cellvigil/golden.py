"""Whether an encoder gives what its bundle says: its golden output, as near as the precision allows. Pure.

The exporter got the golden output for the golden input, on a machine of its own; see `bundle.encoder`.
"""

from __future__ import annotations

import math

import numpy as np

from cellvigil.bundle.encoder import EncoderBundle
from cellvigil.data import F32, Array
from cellvigil.errors import BundleError


def one_minus_cosine(got: Array, wanted: Array) -> F32:
    """1 - cosine of each pair of rows of two (n, d) arrays, computed in float64; 1 where a row is all zero."""
    a, b = np.asarray(got, np.float64), np.asarray(wanted, np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosines = np.divide((a * b).sum(axis=1), lengths, out=np.zeros(len(a)), where=lengths > 0)
    return np.asarray(1.0 - cosines)


def golden_tolerance(bundle: EncoderBundle, provider: str) -> float:
    """Largest 1 - cosine allowed between the golden output and what `provider` gives; int8: the manifest's figure."""
    if bundle.precision == "fp32":
        return 1e-6 if provider == "cpu" else 1e-4
    if bundle.precision == "fp16":
        return 1e-3
    try:
        return float(bundle.manifest["golden_tolerance"])
    except (KeyError, TypeError, ValueError):
        raise BundleError(
            f"the manifest states no golden_tolerance, which {bundle.precision} on {provider} needs",
            where=bundle.folder,
            hint="export the encoder again",
        ) from None


def compare(bundle: EncoderBundle, provider: str, got: F32, wanted: F32) -> None:
    """What `provider` gave against what was wanted, both (n, d). Raises BundleError where they differ by too much."""
    if len(got) != len(wanted):
        raise BundleError("the golden input and output differ in number", where=bundle.folder)
    tolerance = golden_tolerance(bundle, provider)
    away = float(one_minus_cosine(got, wanted).max())
    lengths = np.linalg.norm(got, axis=1) / np.linalg.norm(wanted, axis=1)
    # Vectors whose relative difference is r have 1 - cosine of at most r^2 / 2: the same r bounds the length.
    if away > tolerance or float(np.abs(lengths - 1.0).max()) > math.sqrt(2.0 * tolerance):
        what = f"encoder {bundle.name} on {provider} does not give its golden output (1 - cosine {away:.1e})"
        raise BundleError(what, where=bundle.folder, hint="export the encoder again")
