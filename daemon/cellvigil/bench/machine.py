"""What machine this is, and how much memory is taken: of the process from /proc, of the GPU from NVIDIA's own tool."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_TOOL = "nvidia-smi"  # comes with the driver
_ASKED = ("--query-gpu=name,driver_version,memory.total,memory.used", "--format=csv,noheader,nounits")
_PATIENCE_S = 20.0


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU, as its driver tells of it."""

    name: str
    driver: str
    total_mb: float
    used_mb: float  # by everything that runs on it


@dataclass(frozen=True, slots=True)
class Machine:
    """Where the figures are from."""

    cpu: str
    cores: int  # that this process may use
    gpus: tuple[Gpu, ...]
    versions: dict[str, str]  # of what the figures depend on


def machine() -> Machine:
    """This machine."""
    said = _text("cpuinfo")
    named = re.search(r"^model name\s*:\s*(.+)$", said, re.MULTILINE)
    cpu = named.group(1) if named else platform.processor() or platform.machine()
    versions = {"cellvigil": _version("cellvigil"), "python": platform.python_version()}
    names = ("onnxruntime", "onnxruntime-gpu", "tensorrt", "numpy")
    versions |= {name: found for name in names if (found := _version(name))}
    return Machine(cpu, len(os.sched_getaffinity(0)), gpus(), versions)


def gpus() -> tuple[Gpu, ...]:
    """The GPUs; () where the driver's tool is not there, or has nothing to tell."""
    tool = shutil.which(_TOOL)
    if tool is None:
        return ()
    try:
        done = subprocess.run(  # noqa: S603 - no shell, nothing of a user's in it
            [tool, *_ASKED], capture_output=True, text=True, timeout=_PATIENCE_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    return gpus_told(done.stdout)


def gpus_told(text: str) -> tuple[Gpu, ...]:
    """The GPUs in the tool's answer, a line each; what it does not know ("[N/A]") is 0."""
    lines = [[cell.strip() for cell in line.split(",")] for line in text.splitlines()]
    return tuple(Gpu(line[0], line[1], _number(line[2]), _number(line[3])) for line in lines if len(line) == 4)


def resident_mb() -> float:
    """Memory of this process that is in use now; 0 where the system does not tell."""
    return _status_mb("VmRSS")


def peak_mb() -> float:
    """The most memory of this process that was in use since `forget_peak`; 0 where the system does not tell."""
    return _status_mb("VmHWM")


def forget_peak() -> None:
    """Let `peak_mb` begin anew."""
    with contextlib.suppress(OSError):
        (_PROC / "self" / "clear_refs").write_text("5", encoding="ascii")


def _status_mb(key: str) -> float:
    found = re.search(rf"^{key}:\s*(\d+) kB$", _text("self/status"), re.MULTILINE)
    return int(found.group(1)) / 1024 if found else 0.0


def _text(name: str) -> str:
    try:
        return (_PROC / name).read_text(encoding="utf-8")
    except OSError:
        return ""


def _number(text: str) -> float:
    return float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else 0.0


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
