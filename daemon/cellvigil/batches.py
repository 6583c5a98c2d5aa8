"""How many pictures are run at once: a few batch sizes a device, and how many pictures are cut into them."""

from __future__ import annotations

from collections.abc import Sequence

BUCKETS = {"cpu": (1, 2), "cuda": (1, 8, 32, 64), "tensorrt": (1, 8, 32, 64)}
"""Batch sizes by provider. On the CPU an image costs the least alone or in pairs, each core with its own: no core waits
for another, and the activations stay in its cache (benchmarks/README.md has the figures). Those of the GPU are guesses:
`cellvigil bench` measures them where there is one."""

RUN_COST = {"cpu": 0.0, "cuda": 8.0, "tensorrt": 8.0}
"""What starting a run costs, in images: on the CPU nothing, so that nothing is padded; on a GPU a batch of one takes
about as long as one of eight (not measured: no GPU was to be had)."""


def batch_plan(count: int, buckets: Sequence[int], run_cost: float) -> tuple[int, ...]:
    """Batch sizes that together hold `count` images, largest first, at the least images-and-starts.

    Each batch costs its size (padding included) plus `run_cost`; `buckets` ascend and begin with 1.
    """
    full, rest = divmod(count, buckets[-1])
    best: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]  # for 0, 1, ... images: the cost, and the batches
    for left in range(1, rest + 1):
        options = []
        for size in reversed(buckets):  # of equal costs the one with the larger batch stands
            cost, sizes = best[max(left - size, 0)]
            options.append((size + run_cost + cost, (size, *sizes)))
        best.append(min(options, key=lambda option: option[0]))
    return (buckets[-1],) * full + tuple(sorted(best[rest][1], reverse=True))
