"""Buffers of one batch size, bound to a session once and used again for every run. Touches the session's device only.

On a GPU a plain run makes buffers, copies, and frees them each time; and a CUDA graph may only be replayed on the very
addresses that it was recorded with. On the CPU there is nothing to win (benchmarks/README.md): nothing is bound.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from cellvigil.data import Array


class Bound:
    """One session's buffers for inputs and an output of fixed shapes. Runs of one `Bound` wait for each other."""

    def __init__(
        self,
        ort: ModuleType,
        session: Any,  # onnxruntime.InferenceSession
        inputs: Mapping[str, Array],  # by name; the arrays become the staging buffers that `run` fills
        output: tuple[str, tuple[int, ...], type[np.generic]],  # name, shape, dtype
        *,
        on_gpu: bool,
        graph: int | None = None,  # the CUDA graph that records these runs, from 1 on; None = nothing is recorded
    ) -> None:
        """Raises what onnxruntime raises where the device has no room for the buffers (`device.runtime_errors`)."""
        place = ("cuda", 0) if on_gpu else ("cpu", 0)
        name, shape, dtype = output
        self._session = session
        self._staged = dict(inputs)
        self._given = {key: ort.OrtValue.ortvalue_from_numpy(array, *place) for key, array in inputs.items()}
        self._taken = ort.OrtValue.ortvalue_from_shape_and_type(shape, dtype, *place)
        self._binding = session.io_binding()
        for key, value in self._given.items():
            self._binding.bind_ortvalue_input(key, value)
        self._binding.bind_ortvalue_output(name, self._taken)
        self._options = ort.RunOptions()
        if graph is not None:
            self._options.add_run_config_entry("gpu_graph_id", str(graph))
        self._lock = threading.Lock()

    def run(self, block: Array) -> Array:
        """The output for `block`: up to as many rows as were bound, the missing ones black; an axis of 1 is repeated.

        For a session with one input. The result is a copy: the next run does not change it.
        """
        ((name, staged),) = self._staged.items()
        with self._lock:
            np.copyto(staged[: len(block)], block)
            staged[len(block) :] = 0
            self._given[name].update_inplace(staged)
            self._session.run_with_iobinding(self._binding, self._options)
            return self.output()

    def repeat(self) -> None:
        """Run once more on what the buffers hold, and leave the output where it is: nothing but the device's work."""
        with self._lock:
            self._session.run_with_iobinding(self._binding, self._options)

    def output(self) -> Array:
        """A copy of what the last run made."""
        return np.array(self._taken.numpy())
