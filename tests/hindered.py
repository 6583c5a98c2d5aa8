"""`cellvigil` with one thing in its way, as a program of its own: `python hindered.py WHAT,WHAT run --config FILE`.

Every hindrance lies at a seam that the service really has: a stage's function, onnxruntime's session. What it does is
said on standard error, so that a test can wait for it.
"""

import ctypes
import sys
import time

from cellvigil import device, encoder, pipeline, watch
from cellvigil.bundle import files
from cellvigil.cli import main
from cellvigil.service import beginning, door, flow, lasting, opening, rounds, serve, work
from cellvigil.store import writer

SLOW_S = 30.0


def slow(owner, name, at=2):
    """Let the `at`-th call of a function take far longer than anybody waits."""
    real, calls = getattr(owner, name), [0]

    def hindered(*args, **kwargs):
        calls[0] += 1
        if calls[0] == at:
            print(f"HELD in {name}", file=sys.stderr, flush=True)
            time.sleep(SLOW_S)
        return real(*args, **kwargs)

    setattr(owner, name, hindered)


class Broken:
    """A session whose runs fail when `fails(run number, batch size)` says so, with onnxruntime's own exception."""

    def __init__(self, session, fails, runs):
        self._session, self._fails, self._runs = session, fails, runs

    def run(self, outputs, inputs):
        from onnxruntime.capi.onnxruntime_pybind11_state import Fail  # noqa: PLC0415

        self._runs[0] += 1
        if self._fails(self._runs[0], len(next(iter(inputs.values())))):
            raise Fail("[ONNXRuntimeError] : 1 : FAIL : CUDNN failure 4: CUDNN_STATUS_INTERNAL_ERROR")
        return self._session.run(outputs, inputs)

    def __getattr__(self, name):
        return getattr(self._session, name)


def gpu_that_vanishes(after=2):
    """A "GPU" (the CPU's session under that name) of which every run fails after a few, and that cannot be reopened."""
    runs = [0]

    def on_gpu(ort, path, wanted, threads):
        if runs[0] > after:
            return None, (device.Lack("the GPU is gone", ""),)
        return Broken(device._session(ort, path, "cpu", threads), lambda run, _: run > after, runs), ()

    device._on_gpu = on_gpu
    lasting._BACKOFF_S = (0.05, 0.05, 0.05)


def stale_soon():
    """A stage hangs, and health takes a beat of two seconds ago for stale."""
    door.STALE_S, rounds._BEAT_S = 2.0, 0.5
    slow(work.Work, "prepare", at=3)


def beat_often():
    rounds._BEAT_S = 0.3


def drain_soon():
    """Let go of what hangs after 2.5 s, not 7: the tests of every stage need not wait so long each."""
    serve._DRAIN_S, flow._LAST_S = 2.5, 1.0


def fault(frame):
    """A decoder's fault at one frame ("B1/t1"): the system kills the process, at every try."""
    real = work.read_frame

    def faulting(files, *args):
        if frame == f"{files.key.well}/t{files.key.timepoint}":
            print("FAULT", file=sys.stderr, flush=True)
            ctypes.string_at(0)
        return real(files, *args)

    work.read_frame = beginning.read_frame = faulting


HINDRANCES = {
    "read": lambda: slow(work, "read_frame"),
    "segment": lambda: slow(pipeline, "prepare", at=4),
    "embed": lambda: slow(encoder.Encoder, "embed", at=3),
    "call": lambda: slow(pipeline, "call"),
    "commit": lambda: slow(writer.Store, "append_all"),
    "publish": lambda: slow(writer.Store, "publish"),
    "begin": lambda: slow(pipeline, "baseline_of", at=1),
    "look": lambda: slow(watch, "scan"),
    "verify": lambda: slow(files, "sha256_of", at=1),
    "load": lambda: slow(opening, "open_session", at=1),
    "vanish": gpu_that_vanishes,
    "stale": stale_soon,
    "beat": beat_often,
    "soon": drain_soon,
    "fault_first": lambda: fault("B1/t0"),
    "fault_later": lambda: fault("B1/t1"),
}

if __name__ == "__main__":
    for hindrance in sys.argv[1].split(","):
        HINDRANCES[hindrance]()
    sys.exit(main(sys.argv[2:]))
