"""A disk that is full, a real one: the service pauses, says so, loses nothing, and goes on by itself."""

import contextlib
import json
import subprocess
from pathlib import Path

import pytest

from cellvigil.errors import StoreError, StoreFull
from cellvigil.service import pause
from cellvigil.service.serve import once
from cellvigil.store.writer import Store
from lab import Lab

ROOMY = {"store": {"min_free_mb": 0.0}}
TIMEPOINTS = 4


@pytest.fixture
def small_disk():
    """Mounts small disks over folders; they are unmounted when the test ends."""
    with contextlib.ExitStack() as mounted:

        def mount(folder: Path, kilobytes: int) -> Path:
            folder.mkdir(parents=True, exist_ok=True)
            command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
            mounted.callback(subprocess.run, ["umount", "-l", str(folder)], check=True)
            return folder

        yield mount


def fill(folder: Path) -> Path:
    """Take every byte that is left, and return the file that holds them."""
    ballast = folder / ".ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as file:
        while True:
            file.write(b"x")
    return ballast


def held_back(lab: Lab, number: int) -> list[tuple[Path, Path]]:
    """Take the images from this number on out of the folder; returns where they are, and where they belong."""
    pairs = []
    for path in sorted(lab.images.rglob("*.tif")):
        if int(path.stem.rpartition("_")[2]) >= number:
            away = lab.root / "later" / path.name
            away.parent.mkdir(exist_ok=True)
            path.rename(away)
            pairs.append((away, path))
    return pairs


def give(pairs: list[tuple[Path, Path]]) -> None:
    for away, path in pairs:
        away.rename(path)


def once_each(lab: Lab, count: int) -> None:
    ledger = lab.ledger()
    frames = [frame for series in ledger.series() for frame in ledger.frames(series)]
    assert len(frames) == len({frame.key for frame in frames}) == count
    assert {frame.revision for frame in frames} == {0}


def paused(service) -> bool:
    return service.value("cellvigil_paused", reason="store_full") == 1


def test_a_full_store_pauses_the_service_until_there_is_room(lab: Lab, small_disk):
    small_disk(lab.store, 4000)
    lab.film(timepoints=TIMEPOINTS)
    later = held_back(lab, 3)
    with lab.service(**ROOMY) as service:
        service.wait_for(lambda: service.committed() == 4)
        ballast = fill(lab.store)
        give(later)
        service.wait_for(lambda: paused(service))
        health = json.loads(service.get("/healthz"))
        assert (health["ok"], health["paused"]) == (True, "store_full")
        assert service.committed() == 4
        ballast.unlink()
        service.wait_for(lambda: service.committed() == 8)
        service.wait_for(lambda: not paused(service))
        log = service.log.read_text()
        assert service.terminate() == 0
    assert (log.count("paused: no room"), log.count("there is room again")) == (1, 1)
    once_each(lab, 8)
    assert lab.quarantined() == {}


def test_the_end_may_come_during_the_pause_and_a_start_on_the_full_disk_too(lab: Lab, small_disk):
    small_disk(lab.store, 4000)
    lab.film(timepoints=TIMEPOINTS)
    later = held_back(lab, 3)
    with lab.service(**ROOMY) as service:
        service.wait_for(lambda: service.committed() == 4)
        ballast = fill(lab.store)
        give(later)
        service.wait_for(lambda: paused(service))
        service.process.terminate()
        assert service.process.wait(10) == 0
    with lab.service(**ROOMY) as service:  # nothing must be written to start
        service.wait_for(lambda: paused(service))
        ballast.unlink()
        service.wait_for(lambda: service.committed() == 4)
        assert service.terminate() == 0
    once_each(lab, 8)


def test_less_room_than_the_configuration_keeps_free_is_a_full_disk(lab: Lab):
    lab.film(timepoints=2)
    with lab.service(store={"min_free_mb": 1e9}) as service:
        service.wait_for(lambda: paused(service))
        service.process.terminate()
        assert service.process.wait(10) == 0
    assert once(lab.config(**ROOMY))["counted"] == 4
    once_each(lab, 4)


def test_a_refusal_that_cannot_be_written_is_kept_and_written_later(lab: Lab, small_disk):
    state = small_disk(lab.root / "state", 200)
    lab.film(timepoints=2)
    with lab.service(**ROOMY) as service:
        service.wait_for(lambda: service.committed() == 4)
        ballast = fill(state)
        bad = next(lab.images.rglob("*.tif")).with_name("A1_01_1_1_Bright Field_009.tif")
        bad.write_bytes(b"this is no image")
        service.wait_for(lambda: paused(service))
        ballast.unlink()
        service.wait_for(lambda: not paused(service))
        assert service.terminate() == 0
    assert set(lab.quarantined()) == {bad.name}


def test_a_plate_that_cannot_even_begin_waits_for_room(lab: Lab, small_disk):
    small_disk(lab.store, 4000)
    ballast = fill(lab.store)
    lab.film(timepoints=1)
    with lab.service(**ROOMY) as service:
        service.wait_for(lambda: paused(service))
        ballast.unlink()
        service.wait_for(lambda: service.committed() == 2)
        assert service.terminate() == 0
    once_each(lab, 2)


def test_a_full_state_folder_costs_the_memory_of_hashes_and_no_more(lab: Lab, small_disk):
    state = small_disk(lab.root / "state", 64)
    fill(state)
    lab.film(timepoints=1)
    try:
        assert once(lab.config(**ROOMY))["counted"] == 2
    except StoreFull:
        pytest.fail("nothing needed to be written there")


@pytest.mark.parametrize("step", ["append_all", "publish", "note_files", "set_baseline"])
def test_a_disk_that_is_full_at_any_step_doubles_nothing(lab: Lab, monkeypatch, capfd, step: str):
    lab.film(timepoints=2)
    monkeypatch.setattr(pause, "FIRST_WAIT_S", 0.02)
    real, calls = getattr(Store, step), []

    def full(self, *args, **kwargs):
        calls.append(step)
        if len(calls) <= 3:
            raise StoreFull("no room", where=self.path)
        return real(self, *args, **kwargs)

    if step == "note_files":
        assert once(lab.config(**ROOMY))["counted"] == 4
        for path in lab.images.rglob("*.tif"):
            path.touch()
    monkeypatch.setattr(Store, step, full)
    done = once(lab.config(**ROOMY))
    assert done["counted"] == (0 if step == "note_files" else 4)
    assert len(calls) > 3
    said = capfd.readouterr().err
    assert said.count("frame committed") == 4
    assert (said.count("paused: no room"), said.count("there is room again")) == (1, 1)
    once_each(lab, 4)


@pytest.mark.parametrize("step", ["append_all", "publish"])
def test_a_disk_that_fails_otherwise_ends_the_service_and_the_next_start_goes_on(lab: Lab, monkeypatch, step: str):
    lab.film(timepoints=2)

    def failing(self, *_, **__):
        raise StoreError("the store cannot be written: Input/output error", where=self.path)

    with monkeypatch.context() as patched:
        patched.setattr(Store, step, failing)
        with pytest.raises(StoreError, match="Input/output error"):
            once(lab.config(**ROOMY))
    once(lab.config(**ROOMY))
    once_each(lab, 4)
