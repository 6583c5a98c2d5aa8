"""A machine to install on: a real systemd, booted over a throw-away copy of this machine's files, without network."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

BOOT = Path(__file__).with_name("house.sh")

# What house.sh needs to be allowed, on folders of its own.
_MOUNTS = """
mount -t tmpfs tmpfs /mnt
mkdir /mnt/cgroup /mnt/upper /mnt/work /mnt/root
mount -t cgroup2 cgroup2 /mnt/cgroup
mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work /mnt/root
mount -t proc proc /mnt/root/proc
mount -t sysfs sysfs /mnt/root/sys
ip link set lo up
"""


@dataclass(frozen=True)
class House:
    pid: int  # of its systemd

    def path(self, inside: str) -> Path:
        """A path of the house, from here."""
        return Path(f"/proc/{self.pid}/root{inside}")

    def run(self, script: str, *, check: bool = True, seconds: float = 240) -> str:
        """Run a shell script in the house as root; its output."""
        root = f"/proc/{self.pid}/root"
        enter = ["nsenter", "-t", str(self.pid), "-a", f"-r{root}", f"-w{root}", "/bin/bash", "-euc", script]
        clean = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LANG": "C.UTF-8",
        }
        done = subprocess.run(enter, capture_output=True, text=True, timeout=seconds, env=clean, cwd="/", check=False)
        if check and done.returncode:
            raise AssertionError(f"{script}\n{done.stdout}\n{done.stderr}")
        return done.stdout + done.stderr

    def show(self, unit: str, what: str) -> str:
        """One property of a unit."""
        return self.run(f"systemctl show {unit} -p {what} --value").strip()

    def wait_for(self, unit: str, what: str, wanted: str, seconds: float = 60) -> None:
        """Wait until a property of a unit is as wanted."""
        until = time.monotonic() + seconds
        while (found := self.show(unit, what)) != wanted:
            assert time.monotonic() < until, f"{unit}: {what} is {found}, not {wanted}"
            time.sleep(0.2)


def why_not() -> str:
    """Why no house can be built here; "" where one can."""
    if os.geteuid() != 0:
        return "needs root"
    lacking = [tool for tool in ("unshare", "nsenter", "systemctl", "ip") if shutil.which(tool) is None]
    if not Path("/lib/systemd/systemd").exists():
        lacking.append("systemd")
    if lacking:
        return f"needs {', '.join(lacking)}"
    enter = ["unshare", "--mount", "--pid", "--fork", "--net", "--cgroup", "--propagation", "private"]
    tried = subprocess.run([*enter, "sh", "-euc", _MOUNTS], capture_output=True, text=True, check=False)
    return "" if tried.returncode == 0 else f"may not mount here: {tried.stderr.strip()[-100:]}"


@contextlib.contextmanager
def booted(folder: Path) -> Iterator[House]:
    """A house whose systemd runs; all in it is ended and gone after the block."""
    folder.mkdir()
    name = f"cellvigil-house-{os.getpid()}-{time.monotonic_ns()}"
    log = (folder.parent / "house.log").open("w")
    start = ["unshare", "--mount", "--propagation", "private", str(BOOT), str(folder), name]
    outer = subprocess.Popen(start, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        yield _awake(outer, Path(log.name))
    finally:
        for pid in _children(outer.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)  # the first process of its namespace: all others end with it
        outer.wait(30)
        log.close()
        _swept(folder, name)


def _swept(folder: Path, name: str) -> None:
    """Take the house's control groups away, which outlive its processes."""
    sweep = 'mount -t cgroup2 cgroup2 "$1" && find "$1/$2" -depth -type d -exec rmdir {} ";"'
    inside = ["unshare", "--mount", "--propagation", "private", "bash", "-c", sweep, "sweep", str(folder), name]
    subprocess.run(inside, capture_output=True, check=False)


def _awake(outer: subprocess.Popen[bytes], log: Path) -> House:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        assert outer.poll() is None, log.read_text()
        for pid in _children(outer.pid):
            house = House(pid)
            if house.path("/run/systemd/system").is_dir() and "house.target" in house.run(
                "systemctl list-units --no-legend house.target", check=False
            ):
                return house
        time.sleep(0.2)
    raise AssertionError(log.read_text())


def _children(pid: int) -> list[int]:
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []
