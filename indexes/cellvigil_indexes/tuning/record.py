"""What tuning leaves behind: an entry for the manifest, a Parquet table of every trial, and words for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cellvigil_indexes.tuning.checking import Checked
from cellvigil_indexes.tuning.choice import TIES, Tuned
from cellvigil_indexes.tuning.grid import Grid
from cellvigil_indexes.tuning.limits import edges
from cellvigil_indexes.tuning.plan import Plan

_RUNNER_UPS = 5


def entry(grid: Grid, plan: Plan, tuned: Tuned, checked: Checked, seconds: float) -> dict[str, Any]:
    """The manifest's `tuning`, plain values. `validation` is what was chosen by, `held_out` what to expect."""
    scored = [round(score, 6) for score in tuned.best.scores if not np.isnan(score)]  # not all, if interrupted
    return {
        "best": tuned.best.as_dict(),
        "validation": {
            "mean": tuned.best.mean,
            "sd": tuned.best.sd if len(scored) > 1 else None,
            "scores": scored,
            "splits": tuned.splits,
            "splits_planned": len(plan.splits),
            "how": plan.chosen_on,
        },
        "held_out": checked.as_dict(),
        "score": "macro accuracy: the mean over classes of the share of their cells that is called right",
        "rule": TIES,
        "split": dict(plan.about),
        "grid": grid.as_dict(),
        "search": tuned.how,
        "trials": len(tuned.trials),
        "trials_planned": tuned.planned,
        "interrupted": tuned.interrupted,
        "held_out_interrupted": len(checked.scores) < checked.planned,
        "runner_ups": [trial.as_dict() for trial in tuned.trials[1 : 1 + _RUNNER_UPS]],
        "notes": [*tuned.notes, *edges(grid, tuned.settings)],
        "seconds": round(seconds, 3),
    }


def write_trials(tuned: Tuned, path: Path) -> None:
    """Every trial that was scored as Parquet, best first.

    Columns: rank (1 = chosen), encoders (joined by "+"), encoder_count, k_min, k_max, threshold, metric, reweight,
    scaling, mean and sd (of macro accuracy, 0..1), scores (a list, one a split; null where it was not scored).
    """
    trials = tuned.trials
    values = [trial.settings for trial in trials]
    names = ("k_min", "k_max", "threshold", "metric", "reweight", "scaling")
    columns = {
        "rank": list(range(1, len(trials) + 1)),
        "encoders": ["+".join(trial.encoders) for trial in trials],
        "encoder_count": [len(trial.encoders) for trial in trials],
        **{name: [getattr(value, name) for value in values] for name in names},
        "mean": [trial.mean for trial in trials],
        "sd": [trial.sd for trial in trials],
        "scores": pa.array([trial.scores for trial in trials], type=pa.list_(pa.float64()), from_pandas=True),
    }
    pq.write_table(pa.table(columns), path, compression="zstd")


def told(result: Mapping[str, Any]) -> str:
    """The result of `tune` as text."""
    tuning = result["tuning"]
    best, validation, held = tuning["best"], tuning["validation"], tuning["held_out"]
    lines = []
    if tuning["interrupted"]:
        tried = f"{tuning['trials']} of {tuning['trials_planned']} trials were scored"
        over = f"compared on {validation['splits']} of {validation['splits_planned']} splits"
        lines.append(f"interrupted: {tried}, {over}, and the best of these was taken")
    lines += [
        f"index {result['index']}: best of {tuning['trials']} trials in {tuning['seconds']:.1f} s ({tuning['search']})",
        f"  encoders: {' + '.join(best['encoders'])}",
        f"  {_settings(best)}",
        f"validation: macro accuracy {_figure(validation)}, chosen on {validation['how']}",
        "  the best of many trials: optimistic, because the choice was made on these cells",
        _held_out(held, cut_off=tuning["held_out_interrupted"]),
        "next best:",
        *(f"  {_figure(trial)}  {' + '.join(trial['encoders'])}; {_settings(trial)}" for trial in tuning["runner_ups"]),
        *(f"note: {note}" for note in tuning["notes"]),
        result["written"],
    ]
    return "\n".join(lines)


def _held_out(held: Mapping[str, Any], *, cut_off: bool) -> str:
    if held["mean"] is None:
        why = "it was interrupted" if cut_off else "there were too few cells or groups to keep any back"
        return f"held out: no figure, {why}; expect less than the validation score"
    partly = " (cut short)" if cut_off else ""
    return f"held out: macro accuracy {_figure(held)}{partly}, on {held['cells']} cells: {held['how']}; expect this"


def _figure(found: Mapping[str, Any]) -> str:
    spread = f" +- {found['sd']:.3f}" if found["sd"] is not None else ""
    return f"{found['mean']:.3f}{spread}"


def _settings(trial: Mapping[str, Any]) -> str:
    votes = "weighted by class frequency" if trial["reweight"] else "unweighted"
    return (
        f"{trial['metric']}, k {trial['k_min']} to {trial['k_max']} until entropy is below {trial['threshold']:g}, "
        f"votes {votes}, scaling {trial['scaling']}"
    )
