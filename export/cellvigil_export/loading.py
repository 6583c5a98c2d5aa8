"""A transformers network with exactly a checkpoint's tensors, which are held once.

The parameters are made without memory, and the checkpoint's own tensors take their places: what is mapped from a file
stays mapped. Names that transformers used before version 5 are followed by its own loader. Loading is strict: heads
apart, a tensor too many or too few, or of another shape, is an error that lists them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging as chatter

from cellvigil.errors import BundleError
from cellvigil_export.strict import refuse


def load(network: Any, config: Any, state: Mapping[str, Any], *, where: Path, **options: Any) -> Any:
    """A `network` (a class of transformers) of `config` with the tensors of `state`: fp32, eager attention, to be run.

    `options` go to the network's own constructor. Raises BundleError, listing what differs, unless they fit exactly.
    """
    model, wrong = attempted(network, config, state, where=where, **options)
    refuse(wrong, of=f"a {config.model_type} of this configuration", where=where)
    return model


def attempted(
    network: Any, config: Any, state: Mapping[str, Any], *, where: Path, **options: Any
) -> tuple[Any, dict[str, list[str]]]:
    """What `load` gives, and what is wrong with it: names of tensors by what is the matter with them."""
    try:
        with quiet():
            model, told = network.from_pretrained(
                None,
                config=config,
                state_dict=dict(state),
                dtype=torch.float32,
                attn_implementation="eager",
                ignore_mismatched_sizes=True,  # so that all of them are told, not only the first
                output_loading_info=True,
                **options,
            )
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        first = str(error).strip().partition("\n")[0]
        raise BundleError(f"no {config.model_type} can be made of its configuration: {first}", where=where) from None
    computed = {name for name, _ in model.named_buffers()}  # some releases saved what is worked out anyway
    wrong = {
        "missing": sorted(told["missing_keys"]),
        "unexpected": sorted(set(told["unexpected_keys"]) - computed),
        "of another shape": sorted(entry[0] for entry in told["mismatched_keys"]),
    }
    return model.eval(), wrong


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' progress bars and reports: what matters of them is an error here."""
    level, bars = chatter.get_verbosity(), chatter.is_progress_bar_enabled()
    chatter.set_verbosity_error()
    chatter.disable_progress_bar()
    try:
        yield
    finally:
        chatter.set_verbosity(level)
        if bars:
            chatter.enable_progress_bar()
