"""False onsets on simulated 72-hour plates without effect, and the delay after a real one. Deterministic.

    python benchmarks/onset.py [--plates 40] [--effects 4] [--seed 4] [--smoke]

Every scenario is run on so many plates without effect; the share of plates with any onset is held against the promised
5 %, beside two naive ways. Method and limits were chosen on seeds from 1,000,000 on (`--seed 1000000`); nothing was
chosen on seeds 4 and 6, which are reported. Exit code 1 if a scenario lies above the promise beyond chance.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from scipy.special import betaincinv, stdtr

sys.path[:0] = [str(Path(__file__).resolve().parent)]

from onset_plates import HORIZON_H, SCENARIOS, Effect, Scenario, simulate  # noqa: E402 - found through the path above

from cellvigil.platemap import PlatePlan  # noqa: E402
from cellvigil.response.epochs import epochs  # noqa: E402
from cellvigil.response.onset import onsets  # noqa: E402
from cellvigil.response.values import PlateCounts  # noqa: E402

PROMISE = 0.05
EFFECTS = (Effect(0.01), Effect(0.03), Effect(0.1), Effect(0.3), Effect(0.03, 24.0), Effect(0.1, 24.0))
SHOWN = ("usual", "every 15 min", "every 2 h", "6 controls", "correlation 0.15", "4 + 2 plate")


def found(plate: PlateCounts, plan: PlatePlan, treated_s: np.ndarray) -> np.ndarray:
    """(W,) place of each well's onset; -1 = none."""
    whole = epochs(plate, (), {}, max_shift=0.2)
    return onsets(plate, plan, treated_s, whole, false_onset=PROMISE, horizon_h=HORIZON_H).place


def naive(plate: PlateCounts, treated: int, after: int, level: float) -> bool:
    """Whether a t test of any treated well against the controls is below `level` at any look after the treatment."""
    cells = plate.counts[..., :3].sum(axis=(2, 3))[:, after:]
    share = np.where(cells > 0, plate.counts[..., 1:3].sum(axis=(2, 3))[:, after:] / np.maximum(cells, 1), np.nan)
    control = share[treated:]
    number = np.isfinite(control).sum(axis=0)
    enough = number >= 2
    mean, spread = np.nanmean(control[:, enough], axis=0), np.nanstd(control[:, enough], axis=0, ddof=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = (share[:treated, enough] - mean) / (spread * np.sqrt(1 + 1 / number[enough]))
    return bool((1 - stdtr(number[enough] - 1, np.nan_to_num(t)) < level).any())


def at_least(hits: int, runs: int) -> float:
    """Lower end of the 95 % Clopper-Pearson interval."""
    return float(betaincinv(hits, runs - hits + 1, 0.025)) if hits else 0.0


def at_most(hits: int, runs: int) -> float:
    """Upper end of it."""
    return float(betaincinv(hits + 1, runs - hits, 0.975)) if hits < runs else 1.0


def false_onsets(scene: Scenario, plates: int, seed: int) -> tuple[int, int, int]:
    """Of so many plates without effect: those with an onset; with t tests at 1 %; with t tests at 5 % / wells."""
    hits = [0, 0, 0]
    for number in range(plates):
        plate, plan, treated_s = simulate(scene, np.random.default_rng((seed, number)))
        hits[0] += bool((found(plate, plan, treated_s) >= 0).any())
        hits[1] += naive(plate, scene.treated, scene.before, 0.01)
        hits[2] += naive(plate, scene.treated, scene.before, PROMISE / scene.treated)
    return hits[0], hits[1], hits[2]


def delays(scene: Scenario, effect: Effect, plates: int, seed: int) -> np.ndarray:
    """Hours from the beginning of the effect to the onset, of every treated well; NaN where none was found.

    Negative where an onset was found before there was an effect.
    """
    hours = []
    for number in range(plates):
        rng = np.random.default_rng((seed, 500_000 + number))
        plate, plan, treated_s = simulate(scene, rng, effect)
        place = found(plate, plan, treated_s)[: scene.treated]
        at = plate.acquired_s[np.arange(scene.treated), np.maximum(place, 0)]
        hours.append(np.where(place >= 0, (at - 1e6) / 3600 - effect.delay_h, np.nan))
    return np.concatenate(hours)


def report(plates: int, effects: int, seed: int) -> int:
    """Print both tables; returns how many scenarios break the promise beyond chance."""
    print(f"Plates without effect ({plates} a scenario, seed {seed}): share with any false onset (95 % interval)")
    print(f"{'scenario':26} {'cellvigil':>20} {'t test 1 %':>11} {'5 % / wells':>12}")
    sums, broken = np.zeros(3, dtype=int), 0
    for scene in SCENARIOS:
        hits = false_onsets(scene, plates, seed)
        sums += hits
        broken += at_least(hits[0], plates) > PROMISE
        span = f"{at_least(hits[0], plates):.3f} to {at_most(hits[0], plates):.3f}"
        print(
            f"{scene.name:26} {hits[0] / plates:6.3f} {span} {hits[1] / plates:9.2f} {hits[2] / plates:12.2f}",
            flush=True,
        )
    runs = plates * len(SCENARIOS)
    span = f"{at_least(sums[0], runs):.3f} to {at_most(sums[0], runs):.3f}"
    print(f"{f'all {runs}':26} {sums[0] / runs:6.3f} {span} {sums[1] / runs:9.2f} {sums[2] / runs:12.2f}")
    print(f"\nReal effects ({effects} plates each): median hours from its beginning to the onset, share of wells found")
    print(f"{'scenario':18}" + "".join(f"{f'{each.hazard:g}/h after {each.delay_h:g} h':>19}" for each in EFFECTS))
    for scene in (each for each in SCENARIOS if each.name in SHOWN):
        row = [delays(scene, effect, effects, seed) for effect in EFFECTS]
        told = [f"{np.median(each[np.isfinite(each)]) if np.isfinite(each).any() else np.nan:.1f} h" for each in row]
        shares = [f"{np.isfinite(each).mean():.2f}" for each in row]
        print(
            f"{scene.name:18}"
            + "".join(f"{hours:>11}, {share:>5} " for hours, share in zip(told, shares, strict=True)),
            flush=True,
        )
    print(f"\nscenarios above the promise beyond chance: {broken}")
    return broken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plates", type=int, default=40, help="without effect, a scenario (default: 40)")
    parser.add_argument("--effects", type=int, default=4, help="with each effect, a scenario shown (default: 4)")
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--smoke", action="store_true", help="two plates of each, to see that it runs")
    args = parser.parse_args()
    return min(report(2, 1, args.seed) if args.smoke else report(args.plates, args.effects, args.seed), 1)


if __name__ == "__main__":
    raise SystemExit(main())
