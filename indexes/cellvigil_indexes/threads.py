"""One thread for many small fits: threads that wait for each other on a busy machine cost more than they bring."""

from __future__ import annotations

import contextlib
import importlib


def one_thread() -> contextlib.AbstractContextManager[object]:
    """Linear algebra on one thread inside, on as many as before after it. Needs threadpoolctl, which scikit-learn
    brings; without it nothing changes.
    """
    try:
        control = importlib.import_module("threadpoolctl")
    except ImportError:
        return contextlib.nullcontext()
    limits: contextlib.AbstractContextManager[object] = control.threadpool_limits(1)
    return limits
