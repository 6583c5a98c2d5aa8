"""DINOv2 checkpoints, as transformers lays them out or as their authors named them, to one torch model.

The names are mapped as the project's reference/encoders.md has them (bit-exact there for ViT-S, L and g); loading is
strict: a checkpoint with a key too many or too few is refused. DINOv2: Oquab et al., 2023; architecture by
configuration, or read off the weights' shapes. Checkpoints are read as safetensors or by torch's weights-only loader.
"""

from __future__ import annotations

import json
import logging
import math
import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import Dinov2Config, Dinov2Model

from cellvigil.errors import BundleError, UsageError
from cellvigil_export import torch_graph
from cellvigil_export.declaration import Declaration, Made, Preprocessing
from cellvigil_export.strict import check_tensors

LOG = logging.getLogger("cellvigil")

State = dict[str, Any]  # name -> torch.Tensor

_WRAPPERS = ("teacher", "model", "state_dict")
_PREFIX = re.compile(r"^(module\.|backbone\.|_fsdp_wrapped_module\.|dinov2\.)+")
_PREPROCESSOR = "preprocessor_config.json"
_HEADS = ("dino_head.", "ibot_head.", "head.", "classifier.")

_RENAMED = (
    # As the authors named them.
    (r"^cls_token$", "embeddings.cls_token"),
    (r"^mask_token$", "embeddings.mask_token"),
    (r"^pos_embed$", "embeddings.position_embeddings"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^norm\.", "layernorm."),
    (r"^blocks\.(?:\d+\.)?(\d+)\.", r"encoder.layer.\1."),  # large models nest a chunk's number; the last is the layer
    (r"\.attn\.proj\.", ".attention.o_proj."),
    (r"\.attn\.qkv\.", ".attention.qkv."),
    (r"\.ls([12])\.gamma$", r".layer_scale\1.lambda1"),
    (r"\.mlp\.w3\.", ".mlp.down_proj."),
    (r"\.mlp\.w12\.", ".mlp.weights_in."),
    # As transformers named them before version 5.
    (r"\.attention\.attention\.query\.", ".attention.q_proj."),
    (r"\.attention\.attention\.key\.", ".attention.k_proj."),
    (r"\.attention\.attention\.value\.", ".attention.v_proj."),
    (r"\.attention\.output\.dense\.", ".attention.o_proj."),
    (r"\.mlp\.weights_out\.", ".mlp.down_proj."),
)
_SPLIT = {".attention.qkv.": ("q_proj", "k_proj", "v_proj"), ".mlp.weights_in.": ("gate_proj", "up_proj")}


def make(declaration: Declaration, weights: Path, model: Path) -> Made:
    """Write the model of the checkpoint at `weights`, a folder or a file; see `declaration.Family`."""
    files = _files(weights)
    state = renamed(_state(files))
    config = _configured(weights / "config.json") if weights.is_dir() else inferred(state, weights)
    _check_kind(config, declaration)
    preprocessing = _own_preprocessing(weights, declaration.preprocessing)
    network = loaded(config, state, weights)
    bake_positions(network, declaration.input_size)
    encoder = torch_graph.PictureEncoder(network, _class_token, preprocessing).eval()
    torch_graph.write(encoder, (declaration.input_size, declaration.input_size, declaration.channels), model)
    sources = {path.name: path for path in files}
    against = f"torch {torch.__version__}"
    return Made(
        torch_graph.reference(encoder), against, preprocessing, sources, ("torch", "transformers", "onnxscript")
    )


def renamed(state: Mapping[str, Any]) -> State:
    """`state` under the names of transformers 5, whichever of the three namings it came in; heads are dropped."""
    found: State = {}
    for key, tensor in state.items():
        name = _PREFIX.sub("", key)
        if name.startswith(_HEADS):
            continue
        for pattern, replacement in _RENAMED:
            name = re.sub(pattern, replacement, name)
        fused = next((part for part in _SPLIT if part in name), None)
        if fused is None:
            found[name] = tensor
            continue
        block = ".attention." if "attention" in fused else ".mlp."
        for part, piece in zip(_SPLIT[fused], tensor.chunk(len(_SPLIT[fused])), strict=True):
            found[name.replace(fused, f"{block}{part}.")] = piece
    return found


def inferred(state: Mapping[str, Any], where: Path) -> Any:
    """The configuration (`Dinov2Config`) that the shapes of a renamed `state` imply; heads are 64 wide."""
    try:
        width, channels, patch, _ = state["embeddings.patch_embeddings.projection.weight"].shape
        positions = state["embeddings.position_embeddings"].shape[1] - 1
    except (KeyError, ValueError, IndexError) as error:
        raise BundleError(f"the checkpoint is not a DINOv2 vision transformer: {error}", where=where) from None
    grid = math.isqrt(positions)
    if grid * grid != positions:
        raise BundleError(f"its {positions} positions make no square (register tokens?)", where=where)
    layers = [int(found[1]) for key in state if (found := re.match(r"encoder\.layer\.(\d+)\.", key))]
    return Dinov2Config(
        hidden_size=width,
        num_channels=channels,
        patch_size=patch,
        image_size=grid * patch,
        num_hidden_layers=max(layers, default=-1) + 1,
        num_attention_heads=max(width // 64, 1),
        use_swiglu_ffn=any(".mlp.gate_proj." in key for key in state),
        use_mask_token="embeddings.mask_token" in state,
    )


def loaded(config: Any, state: State, where: Path) -> Any:
    """A `Dinov2Model` with exactly these weights, eager attention, ready to be run."""
    network = Dinov2Model(config)
    network.set_attn_implementation("eager")
    found, expected = (
        {key: tuple(value.shape) for key, value in held.items()} for held in (state, network.state_dict())
    )
    check_tensors(found, expected, of="the DINOv2 of its configuration", where=where)
    network.load_state_dict(state)
    return network.to(torch.float32).eval()


def bake_positions(network: Any, side: int) -> None:
    """Replace the position embedding by the one for pictures of `side` pixels, so that the graph holds no resize."""
    embeddings = network.embeddings
    patches = (side // network.config.patch_size) ** 2
    with torch.no_grad():
        tokens = torch.zeros(1, patches + 1, network.config.hidden_size)
        positions = embeddings.interpolate_pos_encoding(tokens, side, side).clone()
    embeddings.position_embeddings = torch.nn.Parameter(positions, requires_grad=False)


def _class_token(network: Any, pixels: Any) -> Any:
    return network(pixel_values=pixels).pooler_output


def _files(weights: Path) -> list[Path]:
    """The checkpoint's files: those of a folder that matter, or the one file."""
    if not weights.is_dir():
        return [weights]
    tensors = sorted(weights.glob("*.safetensors"))
    if not (weights / "config.json").is_file() or not tensors:
        hint = "a folder as transformers lays it out, or one .safetensors or .pth file"
        raise UsageError("the folder lacks config.json or model.safetensors", where=weights, hint=hint)
    return [path for name in ("config.json", _PREPROCESSOR) if (path := weights / name).is_file()] + tensors


def _state(files: list[Path]) -> Mapping[str, Any]:
    """The tensors of all `files`, by the names they have there."""
    state: State = {}
    for path in files:
        try:
            if path.suffix == ".safetensors":
                state |= load_file(path)
            elif path.suffix != ".json":
                with warnings.catch_warnings(action="ignore"):  # of a pickle protocol that it then refuses
                    state |= _unwrapped(torch.load(path, map_location="cpu", weights_only=True))
        except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError, TypeError) as error:
            first = str(error).strip().partition("\n")[0]
            raise BundleError(f"this is not a plain checkpoint of tensors: {first}", where=path) from None
    return state


def _unwrapped(content: Any) -> State:
    """The state dict inside a training checkpoint."""
    while isinstance(content, dict) and (inner := next((name for name in _WRAPPERS if name in content), None)):
        content = content[inner]
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise TypeError("it holds something other than named tensors")
    return content


def _configured(path: Path) -> Any:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict) or content.get("model_type") != "dinov2":
            raise BundleError("the configuration is not that of a DINOv2", where=path)
        return Dinov2Config.from_dict(content)
    except (ValueError, TypeError) as error:
        raise BundleError(f"the configuration cannot be read: {error}", where=path) from None


def _check_kind(config: Any, declaration: Declaration) -> None:
    found = (config.hidden_size, config.num_channels)
    if found != (declaration.dimension, declaration.channels):
        what = f"width {found[0]} and {found[1]} channels are not those of {declaration.name}"
        raise BundleError(what, hint=f"it has {declaration.dimension} and {declaration.channels}")


def _own_preprocessing(weights: Path, usual: Preprocessing) -> Preprocessing:
    """The checkpoint's own preprocessing where it comes with one, else `usual`; a difference is told."""
    path = weights / _PREPROCESSOR
    if not path.is_file():
        return usual
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        resize = {key: content.get(key) for key in ("do_resize", "size", "resample", "do_center_crop", "crop_size")}
        own = Preprocessing(
            json.dumps(resize, sort_keys=True),
            scale=float(content.get("rescale_factor", usual.scale)),
            mean=tuple(map(float, content["image_mean"])),
            std=tuple(map(float, content["image_std"])),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BundleError(f"the preprocessing cannot be read: {error}", where=path) from None
    if replace(own, resize=usual.resize) != usual:
        LOG.warning("%s differs from the usual preprocessing and is followed", path)
    return own
