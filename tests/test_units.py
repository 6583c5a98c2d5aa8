"""The systemd units: systemd understands them, both say the same, and neither lets the service do more than it must."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cellvigil.service.notify import WATCHDOG_S

SYSTEMD = Path(__file__).parents[1] / "systemd"
UNITS = sorted(SYSTEMD.glob("*.service"))

analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


@pytest.fixture(params=UNITS, ids=lambda path: path.name)
def unit(request, tmp_path):
    """A unit whose program is there."""
    text = re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", request.param.read_text())
    path = tmp_path / request.param.name.replace("@.", "@one.")
    path.write_text(text)
    return path


def directives(path):
    lines = [line for line in path.read_text().splitlines() if "=" in line and not line.startswith("#")]
    return [tuple(line.split("=", 1)) for line in lines]


def test_there_are_two():
    assert [path.name for path in UNITS] == ["cellvigil.service", "cellvigil@.service"]


@analyze
def test_systemd_understands_it(unit):
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@analyze
def test_it_is_exposed_little(unit):
    told = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", unit],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    [exposure] = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", told)
    assert float(exposure) <= 2.0


def test_cuda_keeps_its_devices_and_its_compiler():
    for path in UNITS:
        told = dict(directives(path))
        allowed = [value for key, value in directives(path) if key == "DeviceAllow"]
        assert {"char-nvidia rw", "char-nvidiactl rw", "char-nvidia-uvm rw"} <= set(allowed)
        assert not {"PrivateDevices", "MemoryDenyWriteExecute", "ProcSubset"} & set(told)


def test_the_two_differ_only_in_what_an_instance_needs():
    one, many = (set(directives(path)) for path in UNITS)
    assert {key for key, _ in one ^ many} == {"Description", "ExecStart", "StateDirectory"}


def test_the_watchdog_is_fed_by_the_service_itself():
    told = dict(directives(UNITS[0]))
    assert (told["Type"], told["NotifyAccess"], told["WatchdogSec"]) == ("notify", "main", str(WATCHDOG_S))
