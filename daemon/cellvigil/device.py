"""Which device runs an encoder, and, where the one asked for cannot be had, which library is missing.

onnxruntime says that it has CUDA when it was only compiled for it, falls back to the CPU with a warning, and comes as
two distributions that overwrite each other. So: installed distributions are looked at first, the session's own
providers are believed and nothing else, and a library is found missing by trying to load it.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.metadata
import io
import logging
import os
import re
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from cellvigil.device_options import NO_TF32, PROVIDERS, Tuning, provider_chain
from cellvigil.errors import BundleError, DeviceError, UsageError

LOG = logging.getLogger("cellvigil")

CPU_BUILD, GPU_BUILD = "onnxruntime", "onnxruntime-gpu"
DRIVER = "libcuda.so.1"
_ERROR, _FATAL = 3, 4  # onnxruntime's log severities
_PIP = f"{sys.executable} -m pip"
# Between quantised layers it quantises the weights of those that an int8 export kept in single precision, one scale for
# all channels (onnxruntime 1.31: EfficientNet-Lite0's vectors are off by a sixth).
_WITHOUT_OPTIMISERS = ["WeightBiasQuantization"]


class Lack(NamedTuple):
    """Something that a device needs and this machine does not have."""

    what: str
    mend: str  # what brings it; "" where we cannot say


@dataclass(frozen=True, slots=True, eq=False)
class Session:
    """A loaded model and where it runs."""

    session: Any  # onnxruntime.InferenceSession
    provider: str  # "cpu", "cuda" or "tensorrt": what was obtained
    note: str  # why not the GPU, under `auto`; "" otherwise

    @property
    def is_on_gpu(self) -> bool:
        """Whether the session itself says so."""
        return bool(self.session.get_providers()[0] != PROVIDERS["cpu"])

    @property
    def is_recorded(self) -> bool:
        """Whether runs are recorded as CUDA graphs: only of what was bound, and a batch size each."""
        told = self.session.get_provider_options().get(PROVIDERS["cuda"], {})
        return bool(told.get("enable_cuda_graph", "0") == "1")


def installed_builds() -> set[str]:
    """Which builds of onnxruntime are installed, by name; asked for one by one: reading all names takes 30 ms."""
    return {name for name in (CPU_BUILD, GPU_BUILD) if _is_installed(name)}


def _is_installed(distribution: str) -> bool:
    try:
        importlib.metadata.distribution(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def check_distributions(installed: Collection[str]) -> None:
    """Raises DeviceError if both builds of onnxruntime are `installed`, or neither is; each with the mending command.

    They own the same files: the one installed last wins, and removing either breaks the other.
    """
    both = {CPU_BUILD, GPU_BUILD} & set(installed)
    if len(both) == 2:
        mend = f"{_PIP} uninstall -y {CPU_BUILD} {GPU_BUILD} && {_PIP} install '{GPU_BUILD}[cuda,cudnn]'"
        hint = f"keep one: {mend} (without a GPU: {CPU_BUILD} in its place)"
        raise DeviceError(f"{CPU_BUILD} and {GPU_BUILD} are both installed and overwrite each other", hint=hint)
    if not both:
        hint = f"{_PIP} install {CPU_BUILD} (with an NVIDIA GPU: '{GPU_BUILD}[cuda,cudnn]')"
        raise DeviceError("onnxruntime, which runs the encoders, is not installed", hint=hint)


def runtime() -> ModuleType:
    """The onnxruntime module. Raises DeviceError as `check_distributions` does, or if the module does not load."""
    check_distributions(installed_builds())
    try:
        ort = importlib.import_module("onnxruntime")
    except ImportError as error:
        hint = f"{_PIP} install --force-reinstall onnxruntime"
        raise DeviceError(f"onnxruntime is installed but does not load: {error}", hint=hint) from None
    ort.set_default_logger_severity(_ERROR)  # its warnings are about its own graph rewriting and device discovery
    return ort


_AS_IT_IS = Tuning()


def open_model(
    path: Path, *, device: str, threads: int = 0, tuning: Tuning = _AS_IT_IS, bound: bool = False
) -> Session:
    """Load the model at `path` on `device` ("auto", "cpu", "cuda" or "tensorrt"); `threads` on the CPU, 0 = all cores.

    `tuning` says how, but for its threads. CUDA graphs are recorded only where what is run will be `bound` to fixed
    addresses (else a replay reads what lay there before), and where the model can be: see `Session.is_recorded`.
    `auto` takes CUDA where it works and else the CPU, with the reason in `note`. Raises DeviceError, naming the missing
    library, if a device was asked for by name and not obtained; BundleError if the model does not load; UsageError for
    another device.
    """
    if device not in {"auto", *PROVIDERS}:
        raise UsageError(f"no device {device!r}", hint=f"one of auto, {', '.join(PROVIDERS)}")
    ort = runtime()
    tuning = replace(tuning, threads=threads, cuda_graphs=tuning.cuda_graphs and bound)
    lacks: tuple[Lack, ...] = ()
    if device != "cpu":
        wanted = "cuda" if device == "auto" else device
        session, lacks = _on_gpu(ort, path, wanted, tuning)
        if session is not None:
            return Session(session, wanted, "")
        if device != "auto":
            raise not_obtained(device, lacks)
    note = f"running on the CPU: {lacks[0].what}" if lacks else ""
    try:
        return Session(_session(ort, path, "cpu", tuning), "cpu", note)
    except runtime_errors() as error:
        raise BundleError(f"the model does not load: {error}", where=path, hint="export the encoder again") from None


def not_obtained(device: str, lacks: Sequence[Lack]) -> DeviceError:
    """The error for a device that was asked for by name: everything that is missing, and what brings it."""
    mends = dict.fromkeys(lack.mend for lack in lacks if lack.mend)
    what = f"{device} was asked for and cannot be had: {', and '.join(lack.what for lack in lacks)}"
    return DeviceError(what, hint="; ".join([*mends, "or set encoder.device to auto or cpu"]))


def _on_gpu(ort: ModuleType, path: Path, wanted: str, tuning: Tuning) -> tuple[Any, tuple[Lack, ...]]:
    """A session that does run on `wanted`, or None and what is missing."""
    if lacks := missing(ort.get_available_providers(), wanted):
        return None, lacks
    session, problem = _tried(ort, path, wanted, tuning)
    if session is None and tuning.cuda_graphs:
        session, second = _tried(ort, path, wanted, replace(tuning, cuda_graphs=False))
        if session is not None:
            LOG.warning("%s cannot be recorded as a CUDA graph, and runs without: %s", path, problem)
        problem = second
    return (session, ()) if session is not None else (None, (missing_library(ort, wanted, problem),))


def _tried(ort: ModuleType, path: Path, wanted: str, tuning: Tuning) -> tuple[Any, str]:
    """A session that does run on `wanted`, or None and what onnxruntime says."""
    ort.set_default_logger_severity(_FATAL)  # what it lacks is told by name later, see `missing_library`
    try:
        session = _session(ort, path, wanted, tuning)
    except runtime_errors() as error:
        return None, str(error)
    finally:
        ort.set_default_logger_severity(_ERROR)
    return (session, "") if session.get_providers()[0] == PROVIDERS[wanted] else (None, "")


def missing(available: Collection[str], wanted: str) -> tuple[Lack, ...]:
    """What keeps `wanted` from being tried at all: no driver, a build of onnxruntime without it. () = nothing.

    `available` are the providers that this build of onnxruntime was compiled with.
    """
    lacks = []
    if problem := _load_error(DRIVER):
        state = "is missing" if library_named_in(problem) == DRIVER else f"does not load ({problem})"
        lacks.append(Lack(f"the NVIDIA driver's library {DRIVER} {state}", "install NVIDIA's driver"))
    if PROVIDERS[wanted] not in available:
        mend = f"{_PIP} uninstall -y {CPU_BUILD} && {_PIP} install '{GPU_BUILD}[cuda,cudnn]'"
        lacks.append(Lack(f"the library {GPU_BUILD} is not installed", mend))
    return tuple(lacks)


def missing_library(ort: ModuleType, wanted: str, problem: str) -> Lack:
    """The library that onnxruntime's provider for `wanted` lacks, found by loading the provider; else its `problem`.

    Only to be called after onnxruntime itself tried: a provider that is loaded before does not work afterwards.
    """
    folder = Path(str(ort.__file__)).parent / "capi"
    loading = _load_error(str(folder / f"libonnxruntime_providers_{wanted}.so"))
    mend = f"{_PIP} install '{GPU_BUILD}[cuda,cudnn]'" + (
        f" && {_PIP} install tensorrt" if wanted == "tensorrt" else ""
    )
    if named := library_named_in(loading):
        return Lack(f"the library {named} is missing", mend)
    return Lack(loading or problem or f"onnxruntime loads {wanted} and does not use it", "")


def library_named_in(message: str) -> str:
    """The library that a loader's message complains of, or "". The loader names it first, before the colon."""
    found = re.search(r"([\w.+-]*\.so[\w.]*): cannot open shared object", message)
    return found.group(1) if found else ""


def _load_error(library: str) -> str:
    """Why `library` does not load; "" if it does."""
    try:
        ctypes.CDLL(library, mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        return str(error)
    return ""


def _session(ort: ModuleType, path: Path, wanted: str, tuning: Tuning) -> Any:
    """An onnxruntime session that asks for `wanted`, with the CPU behind it for what the GPU cannot do."""
    if wanted != "cpu" and hasattr(ort, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()) as said:  # it prints what it did not find
            ort.preload_dlls()
        LOG.debug("onnxruntime.preload_dlls: %s", said.getvalue().strip())
    if wanted == "tensorrt":
        os.environ.setdefault(*NO_TF32)
        _make_folder(tuning)
    chain = provider_chain(wanted, tuning)
    options = _options(ort, tuning)
    return ort.InferenceSession(
        str(path), options, providers=chain, enable_fallback=0, disabled_optimizers=_WITHOUT_OPTIMISERS
    )


def _make_folder(tuning: Tuning) -> None:
    """The folder of TensorRT's engines. Raises DeviceError where it cannot be: minutes of building are not wasted."""
    if tuning.engines is None:
        return
    try:
        tuning.engines.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"TensorRT's engines cannot be kept: {error.strerror}"
        raise DeviceError(what, where=tuning.engines, hint="let the service write to state_dir") from None


def _options(ort: ModuleType, tuning: Tuning) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = tuning.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERROR
    options.use_deterministic_compute = True
    if tuning.lean:
        # By default a buffer stays with each shape of numbers until the shape's last use, and an arena around them all.
        options.enable_cpu_mem_arena = options.enable_mem_pattern = options.enable_mem_reuse = False
    # Threads that spin while they wait take the cores from the stages that prepare the next batch.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def runtime_errors() -> tuple[type[Exception], ...]:
    """The exceptions that onnxruntime raises, also for want of memory; they share no base but Exception."""
    state = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    found = (value for value in vars(state).values() if isinstance(value, type) and issubclass(value, Exception))
    return (*found, RuntimeError, ValueError, MemoryError)
