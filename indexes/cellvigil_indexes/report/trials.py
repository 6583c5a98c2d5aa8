"""What `tune` tried, read from an index's bundle: the best of each set of encoders, and what each setting is worth.

Reads trials.parquet, one row a trial: encoders (a list, or names joined by "+"), k_min, k_max, threshold, metric,
reweight, scaling, mean and sd of the macro accuracy over the splits. A setting without a column was not tried.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

from cellvigil.errors import BundleError

FILE = "trials.parquet"
SETTINGS = ("k_min", "k_max", "threshold", "metric", "reweight", "scaling")
_ENCODERS = ("encoders", "subset")
_MEAN = ("mean", "macro_accuracy", "score")
_SPREAD = ("sd", "std")

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SubsetBest:
    """One set of encoders under the settings that suit it best."""

    encoders: tuple[str, ...]
    mean: float  # macro accuracy, 0..1
    sd: float  # over splits; NaN where the table does not say
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """One value of one setting."""

    value: Any
    best: float  # macro accuracy of the best trial with this value, all else free
    held: float  # with all else as in the best trial of all; NaN where that was not tried


@dataclass(frozen=True, slots=True)
class Trials:
    """What tuning found."""

    count: int
    best: SubsetBest  # of all
    by_subset: tuple[SubsetBest, ...]  # the best set first
    sensitivity: Mapping[str, tuple[Sensitivity, ...]]  # setting -> its values in order; only settings that vary

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def trials_of(folder: Path, tuning: Mapping[str, Any] | None) -> Trials | None:
    """The trials kept in the bundle `folder`; None where there are none. `tuning` is the manifest's entry.

    Raises BundleError for a table that cannot be read, though the manifest says that there is one.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
        return summarised([_row(each) for each in rows])
    except (pyarrow.ArrowException, KeyError, TypeError, ValueError) as error:
        hint = "run `cellvigil-index tune` again" if tuning else "remove it"
        raise BundleError(f"the table of trials cannot be read: {error}", where=path, hint=hint) from None


def summarised(rows: Sequence[Row]) -> Trials | None:
    """Trials as rows with `encoders` (a tuple), `mean`, `sd` and any of SETTINGS; of equals the first. None: none."""
    scored = [row for row in rows if math.isfinite(row["mean"])]
    if not scored:
        return None
    ordered = sorted(scored, key=lambda row: -row["mean"])
    firsts: dict[tuple[str, ...], Row] = {}
    for row in ordered:
        firsts.setdefault(row["encoders"], row)
    varying = {
        name: values
        for name in SETTINGS
        if len(values := sorted({row[name] for row in scored if name in row}, key=lambda v: (str(type(v)), v))) > 1
    }
    return Trials(
        count=len(rows),
        best=_best(ordered[0]),
        by_subset=tuple(_best(row) for row in firsts.values()),
        sensitivity={
            name: tuple(_sensitivity(scored, ordered[0], name, value) for value in values)
            for name, values in varying.items()
        },
    )


def _sensitivity(rows: Sequence[Row], best: Row, name: str, value: object) -> Sensitivity:
    here = [row for row in rows if row.get(name) == value]
    others = ["encoders", *(other for other in SETTINGS if other != name)]
    held = [row["mean"] for row in here if all(row.get(other) == best.get(other) for other in others)]
    return Sensitivity(value, max(row["mean"] for row in here), held[0] if held else float("nan"))


def _best(row: Row) -> SubsetBest:
    return SubsetBest(row["encoders"], row["mean"], row["sd"], {name: row[name] for name in SETTINGS if name in row})


def _row(found: Mapping[str, Any]) -> dict[str, Any]:
    encoders = _one_of(found, _ENCODERS)
    names = encoders.split("+") if isinstance(encoders, str) else list(encoders)
    spread = next((found[name] for name in _SPREAD if found.get(name) is not None), float("nan"))
    mean = _one_of(found, _MEAN)
    return {
        "encoders": tuple(str(name).strip() for name in names),
        "mean": float("nan") if mean is None else float(mean),
        "sd": float(spread),
        **{name: found[name] for name in SETTINGS if name in found},
    }


def _one_of(found: Mapping[str, Any], names: Sequence[str]) -> Any:
    for name in names:
        if name in found:
            return found[name]
    raise KeyError(names[0])
