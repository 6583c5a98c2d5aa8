"""Work in a process of its own: what it took of memory is given back when it ends. Torch keeps some, whatever is asked.

    result = apart(function, *arguments)

The function is one of a module's, its arguments and result are plain values. Runs a process, touches nothing else.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import ParamSpec, TypeVar

from cellvigil.errors import BundleError
from cellvigil_export.heap import return_what_is_freed

P = ParamSpec("P")
R = TypeVar("R")


def apart(work: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R:
    """What `work` gives, done in a fresh process; in this one if torch is loaded here, as then nothing is gained.

    Raises what `work` raises, and BundleError if its process is killed.
    """
    if "torch" in sys.modules:
        return here(work, *arguments, **options)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return pool.submit(_alone, work, arguments, options).result()
        except BrokenProcessPool:
            what = "the process that makes the model was ended from outside"
            raise BundleError(what, hint="memory ran out? try on a larger machine") from None


def here(work: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R:
    """What `work` gives, done in this process."""
    return work(*arguments, **options)


def _alone(work: Callable[..., R], arguments: tuple[object, ...], options: dict[str, object]) -> R:
    return_what_is_freed()
    return work(*arguments, **options)
