"""A device that fails while it works: batches halved, sessions opened anew, the CPU at last; the vectors stay the same.

Faults lie where they really come from: in the session's `run`, with onnxruntime's own exceptions.
"""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, RuntimeException

from cellvigil import device
from cellvigil.bundle.encoder import open_encoder
from cellvigil.encoder import open_session
from cellvigil.errors import BadFile, DeviceError
from cellvigil.service.lasting import Lasting
from cellvigil.service.pause import Stopped
from cellvigil_export import golden
from lab import Lab

HINDERED = str(Path(__file__).with_name("hindered.py"))
NO_MEMORY = RuntimeException("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory")
CUDNN = Fail("[ONNXRuntimeError] : 1 : FAIL : CUDNN failure 4: CUDNN_STATUS_INTERNAL_ERROR")


class Plan:
    """Which runs fail, over all sessions; and what each session was opened on."""

    def __init__(self, fails, error=CUDNN, spoil=False):
        self.fails, self.error, self.spoil = fails, error, spoil
        self.armed = False
        self.runs = 0
        self.opened: list[str] = []

    def session(self, real, provider):
        self.opened.append(provider)
        return Faulty(real, provider, self)


class Faulty:
    """A real session whose runs fail as planned."""

    def __init__(self, real, provider, plan):
        self._real, self._provider, self._plan = real, provider, plan

    def run(self, outputs, inputs):
        plan = self._plan
        [size] = {len(block) for block in inputs.values()}
        if plan.armed:
            plan.runs += 1
            if plan.fails(plan.runs, size, self._provider):
                if plan.spoil:
                    return [np.full_like(block, np.nan) for block in self._real.run(outputs, inputs)]
                raise plan.error
        return self._real.run(outputs, inputs)

    def __getattr__(self, name):
        return getattr(self._real, name)


@pytest.fixture
def lasting(lite0, monkeypatch):
    """Opens a lasting encoder whose sessions follow a plan. Its GPU is the CPU's session under that name."""
    bundle, told, waits = open_encoder(lite0), Counter(), []
    now = [0.0]

    def wait(seconds):
        waits.append(seconds)
        now[0] += seconds

    def made(plan, *, asked, provider="cuda", batch=32, wait=wait):
        real = device._session
        monkeypatch.setattr(
            device, "_session", lambda ort, path, wanted, threads: plan.session(real(ort, path, "cpu", threads), wanted)
        )
        if provider == "cuda":
            monkeypatch.setattr(
                device, "_on_gpu", lambda ort, path, wanted, threads: (device._session(ort, path, wanted, threads), ())
            )

        def opened(on):
            return open_session(bundle, device=on, threads=1, batch=batch, on_halved=lambda: note("lite0", "halved"))

        def note(_, action):
            told[action] += 1

        one = Lasting(opened(asked), opened, may_degrade=asked == "auto", told=note, wait=wait, clock=lambda: now[0])
        plan.armed = True
        return one, told, waits, now

    return made


@pytest.fixture(scope="module")
def pictures():
    return golden.pictures(41, 224, 3, seed=11)


@pytest.fixture(scope="module")
def undisturbed(lite0, pictures):
    return open_session(open_encoder(lite0), device="cpu", threads=1).embed(pictures)


@pytest.mark.parametrize("largest", [32, 8, 1])
def test_batches_that_do_not_fit_the_memory_are_cut_down(lasting, pictures, undisturbed, largest):
    plan = Plan(lambda run, size, provider: size > largest, error=NO_MEMORY)
    encoder, told, _, _ = lasting(plan, asked="auto", batch=64)
    np.testing.assert_allclose(encoder.embed(pictures), undisturbed, rtol=0, atol=1e-5)
    assert told["rebuilt"] == told["degraded"] == 0
    assert (told["halved"] > 0) == (largest < 32)
    assert encoder.provider == "cuda"


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_device_that_fails_for_a_while_gets_fresh_sessions(lasting, pictures, undisturbed, failing):
    plan = Plan(lambda run, size, provider: run <= failing)
    encoder, told, waits, _ = lasting(plan, asked="cuda", batch=1)
    np.testing.assert_allclose(encoder.embed(pictures), undisturbed, rtol=0, atol=1e-5)
    assert told["rebuilt"] == len(waits) == failing  # a fresh session tries its golden pair first, and fails at once
    assert set(plan.opened) == {"cuda"}


def test_a_device_that_never_comes_back_is_left_for_the_cpu_and_the_vectors_stay(lasting, pictures, undisturbed):
    plan = Plan(lambda run, size, provider: provider == "cuda")
    encoder, told, waits, _ = lasting(plan, asked="auto")
    np.testing.assert_allclose(encoder.embed(pictures), undisturbed, rtol=0, atol=1e-5)
    assert (told["rebuilt"], told["degraded"]) == (3, 1)
    assert waits == sorted(waits)
    assert encoder.provider == "cpu"
    assert "CUDNN failure" in encoder.device_note
    encoder.embed(pictures[:2])
    assert told["degraded"] == 1


@pytest.mark.parametrize(("asked", "provider"), [("cuda", "cuda"), ("cpu", "cpu"), ("auto", "cpu")])
def test_a_device_without_an_alternative_ends_in_an_error(lasting, pictures, asked, provider):
    encoder, told, _, _ = lasting(Plan(lambda *_: True), asked=asked, provider=provider)
    with pytest.raises(DeviceError, match=r"CUDNN failure|golden"):
        encoder.embed(pictures)
    assert (told["rebuilt"], told["degraded"]) == (3, 0)


def test_rebuilding_is_counted_by_the_hour(lasting, pictures):
    due = {1, 3, 5, 7}
    plan = Plan(lambda run, size, provider: run in due)
    encoder, told, _, now = lasting(plan, asked="cuda", batch=1)
    for _ in range(4):
        plan.runs = 0
        due.clear()
        due.add(1)
        encoder.embed(pictures[:1])
        now[0] += 1300.0
    assert told["rebuilt"] == 4
    due.update(range(1, 10**6))
    with pytest.raises(DeviceError):
        encoder.embed(pictures[:1])


def test_a_rebuilt_session_must_give_its_golden_output(lasting, pictures):
    class Lying(Plan):
        def session(self, real, provider):
            self.opened.append(provider)
            if len(self.opened) > 1:
                self.spoil = True
            return Faulty(real, provider, self)

    encoder, told, _, _ = lasting(Lying(lambda *_: True), asked="cuda")
    with pytest.raises(DeviceError):
        encoder.embed(pictures[:2])
    assert told["rebuilt"] >= 1


@pytest.mark.parametrize(("spoilt", "rebuilt"), [(1, 0), (3, 1)])  # the third is of its golden pair
def test_vectors_that_are_no_numbers_are_asked_for_again(lasting, pictures, undisturbed, spoilt, rebuilt):
    plan = Plan(lambda run, size, provider: run <= spoilt, spoil=True)
    encoder, told, waits, _ = lasting(plan, asked="cuda")
    np.testing.assert_allclose(encoder.embed(pictures[:3]), undisturbed[:3], rtol=0, atol=1e-5)
    assert told["rebuilt"] == told.total() == rebuilt == len(waits)


def test_a_device_that_makes_no_numbers_of_anything_is_left_for_the_cpu(lasting, pictures, undisturbed):
    plan = Plan(lambda run, size, provider: provider == "cuda", spoil=True)
    encoder, told, _, _ = lasting(plan, asked="auto")
    np.testing.assert_allclose(encoder.embed(pictures[:3]), undisturbed[:3], rtol=0, atol=1e-5)
    assert (encoder.provider, told["degraded"]) == ("cpu", 1)


def test_a_picture_of_which_a_good_device_makes_no_numbers_is_not_the_device_s_fault(lasting, pictures, undisturbed):
    plan = Plan(lambda run, size, provider: size == 32, spoil=True)  # of the golden pair, alone, it does
    encoder, told, _, _ = lasting(plan, asked="cuda", batch=32)
    for _ in range(10):
        with pytest.raises(BadFile, match="not finite") as caught:
            encoder.embed(pictures[:32])
        assert caught.value.reason == "no_numbers"
    assert not told
    assert len(plan.opened) == 1
    np.testing.assert_allclose(encoder.embed(pictures[:3]), undisturbed[:3], rtol=0, atol=1e-5)


def test_the_end_of_the_service_cuts_the_waiting_short(lasting, pictures):
    def stopped(_):
        raise Stopped

    encoder, *_ = lasting(Plan(lambda *_: True), asked="auto", wait=stopped)
    with pytest.raises(Stopped):
        encoder.embed(pictures[:1])


SHORT_OF_MEMORY = """
import json, resource, sys
import numpy as np
from pathlib import Path
from cellvigil.bundle.encoder import open_encoder
from cellvigil.encoder import Encoder, open_session
from cellvigil_export import golden
halved = []
encoder = open_session(open_encoder(Path(sys.argv[1])), device="cpu", threads=1, on_halved=lambda: halved.append(1))
wide = Encoder(encoder.bundle, "cuda", "", (1, 8, 64), encoder.session, None, encoder.on_halved)
pictures = golden.pictures(64, 224, 3, seed=1)
usual = encoder.embed(pictures)
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 180_000_000, resource.RLIM_INFINITY))
short = wide.embed(pictures)
print(json.dumps({"halved": len(halved), "away": float(np.abs(short - usual).max())}))
"""


def test_a_process_that_is_really_short_of_memory_goes_on_in_smaller_batches(lite0):
    """64 images want some 600 MB of activations at once; the process is allowed 180 MB more than it has."""
    command = [sys.executable, "-c", SHORT_OF_MEMORY, str(lite0)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["halved"] >= 1
    assert said["away"] < 1e-5


def test_a_gpu_that_vanishes_from_a_running_service_is_told_of_and_costs_nothing(lab: Lab):
    lab.film(timepoints=3)
    with lab.service(program=(HINDERED, "vanish")) as service:
        service.wait_for(lambda: service.committed() == 6)
        assert service.value("cellvigil_device_degraded") == 1
        assert service.value("cellvigil_device_info", provider="cpu") == 1
        assert service.value("cellvigil_device_info", provider="cuda") is None
        faults = {
            action: service.value("cellvigil_device_faults_total", encoder="efficientnet-lite0", action=action)
            for action in ("rebuilt", "degraded")
        }
        assert json.loads(service.get("/healthz"))["device"] == "cpu"
        log = service.log.read_text()
        assert service.terminate() == 0
    assert faults == {"rebuilt": 3, "degraded": 1}
    assert log.count("on the CPU from now on") == 1
    keys = [frame.key for series in lab.ledger().series() for frame in lab.ledger().frames(series)]
    assert len(keys) == len(set(keys)) == 6
    assert lab.quarantined() == {}
