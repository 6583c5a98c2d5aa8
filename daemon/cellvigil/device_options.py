"""What onnxruntime's providers are told: from what a configuration and a bundle want to plain texts. Touches nothing.

The keys are those of onnxruntime's own pages on its CUDA and TensorRT execution providers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cellvigil import config

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
"""onnxruntime's names of what `encoder.device` may name."""

BYTES_A_GB = 1_000_000_000

_CUDA: Mapping[str, str] = {
    # TF32 keeps 10 bits of the mantissa, too few for the golden pair; the search for convolution algorithms is by rule
    # and not by timing, so that two runs give the same numbers.
    "use_tf32": "0",
    "cudnn_conv_algo_search": "HEURISTIC",
    "arena_extend_strategy": "kSameAsRequested",
}

NO_TF32 = ("NVIDIA_TF32_OVERRIDE", "0")
"""The environment variable that keeps TF32 off where a provider has no option for it (TensorRT), and its value."""


@dataclass(frozen=True, slots=True)
class Batches:
    """The batches that a model will be run with."""

    input: str  # name of the model's input
    item: tuple[int, ...]  # shape of one image
    sizes: tuple[int, ...]  # images a batch, ascending


@dataclass(frozen=True, slots=True)
class Tuning:
    """How a model is to be run. Every figure may be left as it is: then the provider's own defaults hold."""

    threads: int = 0  # on the CPU; 0 = all cores
    mem_limit: int | None = None  # bytes that one session's arena may take on the GPU; None = as it needs
    cuda_graphs: bool = False  # CUDA: a run is recorded once a batch size, then replayed
    half: bool = False  # the model's own numbers are 16 bits wide, so TensorRT may compute in them
    engines: Path | None = None  # folder of the engines that TensorRT builds; None = none are kept
    batches: Batches | None = None  # what TensorRT builds its one engine for; None = whatever it meets first
    lean: bool = False  # on the CPU: no number is kept longer than it is needed; the same bits, a quarter slower


def engines_folder(settings: config.Config) -> Path:
    """Where TensorRT's engines are kept, in a folder below it for each model."""
    return settings.state_dir / "tensorrt"


def tuning_of(settings: config.Config, model: str) -> Tuning:
    """What a configuration says of how the model of that sha256 is run; "" = its engines are not kept.

    The engines of each model have a folder of their own, so that nobody need guess which of them are of no use any
    more; onnxruntime puts its version, TensorRT's and the GPU's into their names.
    """
    wanted = settings.encoder
    limit = None if wanted.gpu_mem_limit_gb is None else int(wanted.gpu_mem_limit_gb * BYTES_A_GB)
    engines = engines_folder(settings) / model if model else None
    return Tuning(mem_limit=limit, cuda_graphs=wanted.cuda_graphs, engines=engines)


def provider_chain(wanted: str, tuning: Tuning) -> list[tuple[str, dict[str, str]]]:
    """Names and options of the providers for `wanted` ("cpu", "cuda" or "tensorrt"), the first to be asked first.

    Behind TensorRT stands CUDA, for what TensorRT does not know; behind both the CPU.
    """
    behind = {"cpu": (), "cuda": ("cpu",), "tensorrt": ("cuda", "cpu")}[wanted]
    # Beside TensorRT nothing is recorded: onnxruntime records a CUDA graph of a whole model, in one provider.
    told = {"cpu": {}, "cuda": cuda_options(tuning, graphs=tuning.cuda_graphs and wanted == "cuda")}
    told["tensorrt"] = tensorrt_options(tuning)
    return [(PROVIDERS[name], told[name]) for name in (wanted, *behind)]


def cuda_options(tuning: Tuning, *, graphs: bool) -> dict[str, str]:
    """Options of the CUDA provider."""
    options = dict(_CUDA)
    if tuning.mem_limit is not None:
        options["gpu_mem_limit"] = str(tuning.mem_limit)
    if graphs:
        options["enable_cuda_graph"] = "1"
    return options


def tensorrt_options(tuning: Tuning) -> dict[str, str]:
    """Options of the TensorRT provider. It wants "True" and "False", where CUDA's wants "1" and "0"."""
    options = {"trt_fp16_enable": str(tuning.half)}
    if tuning.mem_limit is not None:
        options["trt_max_workspace_size"] = str(tuning.mem_limit)
    if tuning.engines is not None:
        folder = str(tuning.engines)
        options |= {"trt_engine_cache_enable": "True", "trt_engine_cache_path": folder}
        options |= {"trt_timing_cache_enable": "True", "trt_timing_cache_path": folder}
    if tuning.batches is not None:
        options |= _profile(tuning.batches)
    return options


def _profile(batches: Batches) -> dict[str, str]:
    """One engine for all batch sizes, at its best with the largest: most cells are run in those."""
    sizes = {"min": batches.sizes[0], "opt": batches.sizes[-1], "max": batches.sizes[-1]}
    return {
        f"trt_profile_{which}_shapes": f"{batches.input}:{'x'.join(str(side) for side in (size, *batches.item))}"
        for which, size in sizes.items()
    }
