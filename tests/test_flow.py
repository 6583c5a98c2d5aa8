"""The threads: order kept, memory bounded, batches filled, errors where they belong."""

import threading
import time

import pytest

from cellvigil.service.flow import Flow, Passed, Stages


class Probe:
    """Stages over plain numbers: a job is (name, cells); preparing returns cells, embedding returns the name."""

    def __init__(self, *, slow=(), bad=(), poison=(), finish_fails=()):
        self.out: list[Passed] = []
        self.batches: list[list[str]] = []
        self.groups: list[list[str]] = []
        self.full = threading.Event()  # while it is set, `finish` waits as for a full disk
        self.paused = threading.Event()
        self.beats = 0
        self.most_inside = 0
        self.inside = 0
        self.lock = threading.Lock()
        self.slow, self.bad, self.poison, self.finish_fails = slow, bad, poison, finish_fails

    def prepare(self, job):
        with self.lock:
            self.inside += 1
            self.most_inside = max(self.most_inside, self.inside)
        if job[0] in self.slow:
            time.sleep(0.05)
        if job[0] in self.bad:
            raise ValueError(job[0])
        return job[1]

    def embed(self, batch):
        self.batches.append([job[0] for job, _ in batch])
        if any(job[0] in self.poison for job, _ in batch):
            raise RuntimeError("the device is gone")
        return [job[0] for job, _ in batch]

    def finish(self, group, wait):
        with self.lock:
            self.inside -= len(group)
        while self.full.is_set():
            self.paused.set()
            wait(0.01)
        self.groups.append([passed.job[0] for passed in group])
        if any(passed.job[0] in self.finish_fails for passed in group):
            raise OSError("disk full")
        self.out.extend(group)

    def beat(self):
        self.beats += 1

    def flow(self, *, workers=2, depth=4, batch=32):
        stages = Stages(
            prepare=self.prepare, size=lambda cells: cells, embed=self.embed, kept=lambda cells: -cells,
            together=lambda a, b: a[0][0] == b[0][0], finish=self.finish, beat=self.beat,
        )  # fmt: skip
        return Flow(stages, workers=workers, depth=depth, batch=batch)


def feed(flow, jobs):
    for job in jobs:
        while not flow.room() and flow.failure is None:
            time.sleep(0.001)
        if flow.failure is not None:
            return
        flow.submit(job)


def test_frames_leave_in_the_order_they_came_though_some_take_longer():
    probe = Probe(slow={"a0", "a5", "a6"})
    flow = probe.flow()
    jobs = [(f"a{i}", i) for i in range(20)]
    feed(flow, jobs)
    flow.close()
    assert [passed.job for passed in probe.out] == jobs
    assert [passed.embedded for passed in probe.out] == [name for name, _ in jobs]
    assert flow.failure is None


def test_behind_the_encoder_a_frame_is_what_was_kept_of_it():
    probe = Probe()
    flow = probe.flow()
    feed(flow, [("a0", 3), ("a1", 5)])
    flow.close()
    assert [passed.prepared for passed in probe.out] == [-3, -5]


def test_no_more_frames_are_inside_than_the_depth_allows():
    probe = Probe(slow={f"a{i}" for i in range(12)})
    flow = probe.flow(workers=4, depth=3)
    feed(flow, [(f"a{i}", 1) for i in range(12)])
    flow.close()
    assert probe.most_inside <= 3


def test_small_frames_share_a_batch_and_frames_of_another_index_do_not():
    probe = Probe(slow={"a0"})
    flow = probe.flow(depth=8)
    feed(flow, [("a0", 4), ("a1", 4), ("a2", 4), ("b0", 4), ("b1", 4)])
    flow.close()
    assert [name for batch in probe.batches for name in batch] == ["a0", "a1", "a2", "b0", "b1"]
    assert all(len({name[0] for name in batch}) == 1 for batch in probe.batches)


def test_a_batch_holds_no_more_frames_than_it_needs():
    probe = Probe(slow={"a0"})
    flow = probe.flow(depth=8, batch=8)
    feed(flow, [(f"a{i}", 4) for i in range(6)])
    flow.close()
    assert max(len(batch) for batch in probe.batches) <= 2


def test_a_frames_own_error_comes_out_in_its_place_and_stops_nobody():
    probe = Probe(bad={"a1", "a3"})
    flow = probe.flow()
    feed(flow, [(f"a{i}", 1) for i in range(5)])
    flow.close()
    assert [passed.job[0] for passed in probe.out] == ["a0", "a1", "a2", "a3", "a4"]
    assert [type(passed.error).__name__ for passed in probe.out] == [
        "NoneType", "ValueError", "NoneType", "ValueError", "NoneType",
    ]  # fmt: skip


def test_an_empty_frame_passes_like_any_other():
    probe = Probe()
    flow = probe.flow()
    feed(flow, [("a0", 0), ("a1", 0)])
    flow.close()
    assert [passed.embedded for passed in probe.out] == ["a0", "a1"]


@pytest.mark.parametrize("where", ["poison", "finish_fails"])
def test_an_error_of_the_encoder_or_the_store_ends_the_flow_and_is_kept(where):
    probe = Probe(**{where: {"a2"}})
    flow = probe.flow(depth=2)
    feed(flow, [(f"a{i}", 1) for i in range(10)])
    deadline = time.monotonic() + 20
    while flow.failure is None and time.monotonic() < deadline:
        time.sleep(0.001)
    flow.leave(time.monotonic() + 5)
    assert isinstance(flow.failure, RuntimeError | OSError)
    assert all(passed.job[0] in {"a0", "a1"} for passed in probe.out)


def test_a_token_beats_behind_the_frames_that_are_inside():
    probe = Probe(slow={"a0"})
    flow = probe.flow()
    flow.submit(("a0", 1))
    flow.beat()
    flow.close()
    assert probe.beats == 2  # the frame's own passage, and the token's


def until(what):
    deadline = time.monotonic() + 10
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_all_frames_that_wait_are_finished_in_one_group_and_in_their_order():
    probe = Probe(bad={"a3"})
    probe.full.set()
    flow = probe.flow(depth=6)
    feed(flow, [("a0", 1)])
    assert probe.paused.wait(10)
    feed(flow, [(f"a{i}", 1) for i in range(1, 6)])
    until(lambda: flow._prepared.empty() and len(flow._taken) + flow._embedded.qsize() == 5)
    probe.full.clear()
    flow.close()
    assert probe.groups == [["a0"], ["a1", "a2", "a3", "a4", "a5"]]
    assert [passed.job[0] for passed in probe.out] == [f"a{i}" for i in range(6)]
    assert flow.inside == 0


def test_while_it_is_paused_tokens_are_answered_and_no_more_is_taken_in():
    probe = Probe()
    probe.full.set()
    flow = probe.flow(depth=3)
    feed(flow, [(f"a{i}", 1) for i in range(3)])
    assert probe.paused.wait(10)
    assert flow.room() == 0
    for _ in range(3):
        flow.beat()
    until(lambda: probe.beats == 3)
    assert probe.out == []
    probe.full.clear()
    flow.close()
    assert len(probe.out) == 3


def test_leaving_a_pause_lets_go_of_everything_and_is_no_failure():
    probe = Probe()
    probe.full.set()
    flow = probe.flow(depth=3)
    feed(flow, [(f"a{i}", 1) for i in range(3)])
    assert probe.paused.wait(10)
    assert flow.leave(time.monotonic() + 5) == []
    assert flow.failure is None
    assert probe.out == []


def test_leaving_finishes_what_is_past_the_encoder_and_lets_go_of_what_is_before_it():
    probe = Probe()
    probe.full.set()
    flow = probe.flow(workers=1, depth=8, batch=1)
    feed(flow, [("a0", 1), ("a1", 1)])
    assert probe.paused.wait(10)
    probe.slow = {f"b{i}" for i in range(6)}
    feed(flow, [(f"b{i}", 1) for i in range(6)])
    probe.full.clear()
    assert flow.leave(time.monotonic() + 5) == []
    assert [passed.job[0] for passed in probe.out][:2] == ["a0", "a1"]
    assert len(probe.out) < 8
    assert flow.failure is None


@pytest.mark.parametrize("stage", ["prepare", "embed", "finish"])
def test_a_stage_that_hangs_is_left_behind_by_name(stage):
    entered, release = threading.Event(), threading.Event()
    probe = Probe()
    setattr(probe, stage, lambda *_: entered.set() or release.wait(30))
    flow = probe.flow(workers=1)
    feed(flow, [("a0", 1)])
    assert entered.wait(10)
    left = flow.leave(time.monotonic() + 0.3)
    release.set()
    assert [name.partition("_")[0] for name in left] == [stage]
