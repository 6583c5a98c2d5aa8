"""What a large frame costs beside its encoder, and whether the encoder ever waits.

    python benchmarks/pipeline.py [--frames 12] [--rounds 3]

Frames of 904 x 1224 pixels with about 300 simulated cells; EfficientNet-Lite0 with its real weights on the CPU.
Targets: non-encoder CPU time <= 0.5 s a frame; encoder idle <= 5 % while frames wait; whole pipeline over the encoder
alone <= 1.10. The last two are taken in turn, round by round, and the medians are of ratios within a round.
"""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import time
from dataclasses import replace
from statistics import median
from typing import Any

from bench_lab import BenchLab, bench_lab
from prometheus_client import CollectorRegistry

from cellvigil import pipeline, watch
from cellvigil.data import Frame
from cellvigil.metrics import Metrics
from cellvigil.pipeline import Recipe
from cellvigil.quarantine import Quarantine
from cellvigil.rehearse.assay import Assay
from cellvigil.service.crashes import Working
from cellvigil.service.feed import Feed
from cellvigil.service.flow import Flow
from cellvigil.service.notify import Pulse, Supervisor
from cellvigil.service.opening import open_bundles, open_kitchen
from cellvigil.service.pause import Pause
from cellvigil.service.turns import Ticket
from cellvigil.service.work import Job, Work
from cellvigil.sources.read import read_frame
from cellvigil.sources.registry import format_of
from cellvigil.store.writer import open_store


def jobs_of(lab: BenchLab, recipe: Recipe, count: int) -> list[Job]:
    """Every frame of the folder as a job, with a baseline of the first four."""
    settings = lab.config()
    source = settings.sources[0]
    fmt = format_of(source, settings.limits)
    store = open_store(lab.root / "empty")
    feed = Feed(source, fmt, store.ledger, Quarantine(lab.root / "quarantine.jsonl"))
    listing = watch.scan(source.path, fmt.suffixes)
    tickets = []
    for now in range(2 + source.settle_scans):
        feed.look(float(now))
    while (ticket := feed.peek()) is not None:
        feed.claim(ticket.files.key)
        tickets.append(ticket.files)
    store.close()
    assert len(tickets) == len(listing) == count
    frames = [read_frame(files, fmt, source, settings.limits) for files in tickets[:4]]
    baseline = pipeline.baseline_of(frames, recipe)
    return [Job(Ticket(files), source, fmt, recipe, baseline, 0) for files in tickets]


def cpu_beside_encoder(lab: BenchLab, jobs: list[Job]) -> None:
    """CPU seconds of every stage but the encoder, one frame after the other, nothing else running."""
    store = open_store(lab.root / "store-cpu")
    settings = lab.config()
    stages: dict[str, list[float]] = {}
    wholes, cells = [], []

    def timed(stage: str, since: float) -> float:
        now = time.process_time()
        stages.setdefault(stage, []).append(now - since)
        return now

    for job in jobs:
        begin = clock = time.process_time()
        frame: Frame = read_frame(job.files, job.fmt, job.source, settings.limits)
        clock = timed("read", clock)
        prepared = pipeline.prepare(frame, job.recipe, job.baseline)
        clock = timed("prepare", clock)
        before = time.process_time()
        [embeddings] = pipeline.embed([prepared], job.recipe)
        clock = time.process_time()
        encoder = clock - before
        calls = pipeline.call(embeddings, job.recipe)
        clock = timed("call", clock)
        record = pipeline.record(prepared, embeddings, calls, job.recipe, stage_seconds={})
        store.append(record)
        store.publish(record.frame.key.series)
        clock = timed("store", clock)
        wholes.append(clock - begin - encoder)
        cells.append(len(prepared.cells))
    store.close()
    parts = ", ".join(f"{stage} {median(values):.3f}" for stage, values in stages.items())
    print(f"non-encoder CPU: median {median(wholes):.3f} s a frame of {median(cells):.0f} cells ({parts})")


def encoder_alone(jobs: list[Job], crops: list[pipeline.Prepared]) -> float:
    """Seconds of the encoder on the crops of every frame, nothing else running."""
    start = time.perf_counter()
    for job, prepared in zip(jobs, crops, strict=True):
        pipeline.embed([prepared], job.recipe)
    return time.perf_counter() - start


def whole_pipeline(lab: BenchLab, jobs: list[Job], name: str) -> tuple[float, float]:
    """(seconds from the first submission to the last commit, share of the encoder's span that it was idle)."""
    settings = lab.config()
    store = open_store(lab.root / name)
    metrics = Metrics(CollectorRegistry())
    ends: list[Job] = []

    def ended(job: Job, error: Exception | None, stage: str) -> None:
        if error is not None:
            raise SystemExit(f"{job.files.key}: {error} ({stage})")
        ends.append(job)

    pulse = Pulse(metrics.heartbeat, Supervisor({}))
    work = Work(settings.limits, store, metrics, ended, Pause(metrics.paused), pulse, Working(lab.root))
    stages, spans = work.stages(), list[tuple[float, float]]()

    def embed(batch: Any) -> Any:
        began = time.perf_counter()
        blocks = stages.embed(batch)
        spans.append((began, time.perf_counter()))
        return blocks

    workers = max(1, min(4, (os.cpu_count() or 2) // 2))
    start = time.perf_counter()
    flow = Flow(replace(stages, embed=embed), workers=workers, depth=workers + 4, batch=settings.encoder.batch)
    for job in jobs:
        while not flow.room():
            time.sleep(0.001)
        fresh = replace(job.files, first_seen=time.monotonic())
        flow.submit(replace(job, ticket=Ticket(fresh)))
    flow.close()
    seconds = time.perf_counter() - start
    store.close()
    if flow.failure is not None:
        raise flow.failure
    assert len(ends) == len(jobs)
    shutil.rmtree(lab.root / name)
    return seconds, 1 - sum(end - began for began, end in spans) / (spans[-1][1] - spans[0][0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    logging.getLogger("cellvigil").setLevel(logging.WARNING)
    with bench_lab() as lab:
        lab.film(Assay(seed=5, wells=("A1", "B1"), treated=("B1",), timepoints=options.frames // 2, shape=(904, 1224),
                       cells=300.0, defocus_rate=0.0, bubble_rate=0.0))  # fmt: skip
        kitchen = open_kitchen(lab.config(), open_bundles(lab.config()))
        jobs = jobs_of(lab, kitchen.recipes["bench"], options.frames // 2 * 2)
        cpu_beside_encoder(lab, jobs)
        settings = lab.config()
        ready = [
            pipeline.prepare(read_frame(job.files, job.fmt, job.source, settings.limits), job.recipe, job.baseline)
            for job in jobs
        ]
        ratios, idles = [], []
        for number in range(options.rounds):
            alone = encoder_alone(jobs, ready)
            whole, idle = whole_pipeline(lab, jobs, f"store-{number}")
            ratios.append(whole / alone)
            idles.append(idle)
            cells = sum(len(prepared.cells) for prepared in ready)
            print(f"round {number + 1}: encoder alone {alone:.2f} s ({1e3 * alone / cells:.1f} ms a cell), "
                  f"whole pipeline {whole:.2f} s, encoder idle {idle:.1%}")  # fmt: skip
        print(f"whole pipeline over encoder alone: median {median(ratios):.3f} (target 1.10)")
        print(f"encoder idle while frames wait: median {median(idles):.1%} (target 5 %)")


if __name__ == "__main__":
    main()
