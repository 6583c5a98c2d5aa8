"""Any vision checkpoint as transformers lays it out, to one model: a folder with its own config.json.

Which vector: `pooler_output` where the architecture has one, else the class token after the last norm, else the mean
of the last feature map; the manifest names it. Networks with a text side (CLIP, SigLIP) are taken by their vision
tower. What the checkpoint's own preprocessor_config.json says is followed.
"""

from __future__ import annotations

import importlib
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from cellvigil.errors import BundleError, UsageError
from cellvigil_export import preprocessor, torch_graph
from cellvigil_export.checkpoint import CONFIG, Checkpoint, held, settings, tensors
from cellvigil_export.declaration import REFUSED, Declaration, Licences, Made, Preprocessing
from cellvigil_export.loading import attempted, load, quiet
from cellvigil_export.positions import bake_positions
from cellvigil_export.strict import refuse

LOG = logging.getLogger("cellvigil")

FAMILY = "cellvigil_export.vision:make"
_MISTYPED: Any = importlib.import_module("huggingface_hub.errors").StrictDataclassError  # what transformers says then
_TOOLS = ("torch", "transformers", "onnxscript")
_HEADS = re.compile(
    r"^(?:\w*classifier|\w*head|decoder|text_model|text_projection|visual_projection|logit_scale|logit_bias)(?:\.|$)"
)


@dataclass(frozen=True, slots=True)
class Vector:
    """Which of a network's numbers are taken."""

    told: str
    taken: Callable[[Any, Any], Any]  # (network, normalised pixels (n, channels, y, x) f32) -> (n, d) f32


def make(declaration: Declaration, weights: Path, model: Path) -> Made:
    """Write the model of the checkpoint in the folder `weights`; see `declaration.Family`."""
    checkpoint = held(weights)
    network = opened(checkpoint, declaration.architecture)
    used = own_preprocessing(weights, declaration)
    bake_positions(network, declaration.input_size)
    vector = vector_of(network, declaration.input_size, declaration.channels, where=weights)
    return written(declaration, network, vector.taken, preprocessing=used, checkpoint=checkpoint, model=model)


def declared_by(weights: Path, name: str, licence: str) -> Declaration:
    """What the folder `weights` itself says of the encoder in it: `run --checkpoint`.

    `licence` is the SPDX name of its licence. Raises UsageError without a preprocessor_config.json: what the network
    should see would be a guess.
    """
    checkpoint = held(weights)
    told = preprocessor.read(weights) if weights.is_dir() else None
    if checkpoint.config is None or told is None:
        lacks = CONFIG if checkpoint.config is None else preprocessor.FILE
        needed = f"{CONFIG}, {preprocessor.FILE} and model.safetensors"
        hint = f"--checkpoint takes a folder with {needed}, as transformers saves it"
        raise UsageError(f"{lacks} is missing", where=weights, hint=hint)
    config = settings(checkpoint.config)
    network = opened(checkpoint, "")
    channels = int(getattr(network.config, "num_channels", 3))
    preprocessing = preprocessor.preprocessing_of(told, channels)
    side = preprocessing.fit.side
    vector = vector_of(network, side, channels, where=weights)
    return Declaration(
        name=name,
        checkpoint=str(config.get("_name_or_path") or weights.resolve().name),
        family=FAMILY,
        vector=vector.told,
        dimension=tried(lambda pixels: vector.taken(network, pixels), side, channels, where=weights).shape[1],
        preprocessing=preprocessing,
        licences=Licences(upstream=licence, weights=licence),
        channels=channels,
        architecture=str(config["model_type"]),
        refuses=REFUSED.get(str(config["model_type"]), {}),
    )


def opened(checkpoint: Checkpoint, architecture: str) -> Any:
    """The network of a checkpoint's folder, or its vision tower, with the checkpoint's weights.

    Raises BundleError for a checkpoint of another `architecture` (a `model_type` of transformers; "" = any).
    """
    if checkpoint.config is None:
        hint = f"a folder with {CONFIG} beside its tensors, as transformers lays it out"
        raise UsageError(f"the checkpoint lacks {CONFIG}", where=checkpoint.where, hint=hint)
    config = configured(checkpoint.config, architecture)
    found = tensors(checkpoint)
    state = {name: tensor for name, tensor in found.items() if not _HEADS.match(name)}
    tower = getattr(config, "vision_config", config)
    network = MODEL_MAPPING.get(type(tower), None)
    if network is None or network.main_input_name != "pixel_values":
        raise BundleError(f"a {config.model_type} is no encoder of pictures", where=checkpoint.config)
    model, wrong = attempted(network, tower, state, where=checkpoint.where)
    if own := {name: found[name] for name in wrong["missing"] if name in found}:  # SigLIP's tower pools by a "head"
        state |= own
        model, wrong = attempted(network, tower, state, where=checkpoint.where)
    pooled = [name for name in wrong["missing"] if name.startswith("pooler.")]
    if pooled and pooled == wrong["missing"]:  # a classifier's checkpoint has none: the class token is what it trained
        return load(network, tower, state, where=checkpoint.where, add_pooling_layer=False)
    refuse(wrong, of=f"a {config.model_type} of its configuration", where=checkpoint.where)
    return model


def configured(path: Path, architecture: str) -> Any:
    """The configuration in the file at `path`, of that architecture ("" = any that transformers knows)."""
    content = settings(path)
    kind = content.get("model_type")
    if architecture and kind != architecture:
        raise BundleError(f"the configuration is that of a {kind}, not of a {architecture}", where=path)
    try:
        with quiet():  # of settings of a text side, which is not taken
            return transformers.AutoConfig.for_model(**content)
    except (ValueError, TypeError, KeyError, AttributeError, _MISTYPED) as error:
        first = str(error).strip().partition("\n")[0]
        raise BundleError(f"the configuration cannot be read: {first}", where=path) from None


def vector_of(network: Any, side: int, channels: int, *, where: Path) -> Vector:
    """Which vector is taken of a network (see the head of this file), which is tried on a picture of `side` pixels.

    Raises BundleError if it does not take such pictures.
    """
    own = _OWN.get(network.config.model_type)
    if own is not None:
        return own
    given = tried(lambda pixels: network(pixel_values=pixels), side, channels, where=where)
    if getattr(given, "pooler_output", None) is not None:
        return Vector("pooler_output", _pooled)
    if any(name.endswith("cls_token") for name, _ in network.named_parameters()):
        return Vector("class token of last_hidden_state", _class_token)
    return Vector("mean of the last feature map", _mean)


def tried(run: Callable[[Any], Any], side: int, channels: int, *, where: Path) -> Any:
    """What `run` gives for one black picture. Raises BundleError if it takes none of that size."""
    try:
        with torch.inference_mode():
            return run(torch.zeros(1, channels, side, side))
    except (RuntimeError, ValueError, TypeError) as error:
        first = str(error).strip().partition("\n")[0]
        what = f"the network takes no pictures of {side} px and {channels} channels: {first}"
        raise BundleError(what, where=where) from None


def own_preprocessing(weights: Path, declaration: Declaration) -> Preprocessing:
    """The checkpoint's own preprocessing where it comes with one, else the declared; a difference is told."""
    told = preprocessor.read(weights) if weights.is_dir() else None
    if told is None:
        return declaration.preprocessing
    own = preprocessor.preprocessing_of(told, declaration.channels)
    if own.fit.side != declaration.input_size:
        what = f"its pictures are {own.fit.side} px wide, those of {declaration.name} {declaration.input_size}"
        raise BundleError(
            what, where=weights / preprocessor.FILE, hint="export it under a name of its own: --checkpoint PATH"
        )
    for difference in preprocessor.differences(own, declaration.preprocessing):
        LOG.warning(
            "%s differs from the usual preprocessing and is followed: %s", weights / preprocessor.FILE, difference
        )
    return own


def written(
    declaration: Declaration,
    network: Any,
    taken: Callable[[Any, Any], Any],
    *,
    preprocessing: Preprocessing,
    checkpoint: Checkpoint,
    model: Path,
) -> Made:
    """Write `network` as a model, after seeing that it is what `declaration` says."""
    side, channels = declaration.input_size, declaration.channels
    if getattr(network.config, "num_channels", channels) != channels:
        what = f"it takes {network.config.num_channels} channels, {declaration.name} {channels}"
        raise BundleError(what, where=checkpoint.where, hint="another encoder's weights?")
    got = tried(lambda pixels: taken(network, pixels), side, channels, where=checkpoint.where).shape[1]
    if got != declaration.dimension:
        what = f"these weights give a vector of {got}, {declaration.name} has {declaration.dimension}"
        raise BundleError(what, where=checkpoint.where, hint="another encoder's weights?")
    encoder = torch_graph.PictureEncoder(network, taken, preprocessing).eval()
    torch_graph.write(encoder, (side, side, channels), model)
    against = f"torch {torch.__version__}"
    release = partial(torch_graph.release, encoder)
    return Made(torch_graph.reference(encoder), against, preprocessing, checkpoint.sources, _TOOLS, release)


def _pooled(network: Any, pixels: Any) -> Any:
    return network(pixel_values=pixels).pooler_output.flatten(1)


def _class_token(network: Any, pixels: Any) -> Any:
    return network(pixel_values=pixels).last_hidden_state[:, 0]


def _mean(network: Any, pixels: Any) -> Any:
    last = network(pixel_values=pixels).last_hidden_state
    return last.mean((2, 3)) if last.ndim == 4 else last.mean(1)


def _unmasked(network: Any, pixels: Any) -> Any:
    """The class token of a masked autoencoder that sees every patch; its own forward drops and permutes them.

    He et al., Masked Autoencoders Are Scalable Vision Learners (2022); `ViTMAEEmbeddings.forward` without masking.
    """
    embeddings = network.embeddings
    positions = embeddings.position_embeddings
    patches = embeddings.patch_embeddings(pixels) + positions[:, 1:]
    first = (embeddings.cls_token + positions[:, :1]).expand(patches.shape[0], -1, -1)
    hidden = torch.cat((first, patches), dim=1)
    for layer in network.layers:
        hidden = layer(hidden, None)
    return network.layernorm(hidden)[:, 0]


_OWN: Mapping[str, Vector] = {"vit_mae": Vector("class token after the last norm, no patch masked", _unmasked)}
