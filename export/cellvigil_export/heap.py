"""Memory that is freed goes back to the system at once. An export is counted on what its processes hold, used or not.

glibc keeps freed blocks of up to 32 MiB for later, and what lies below the last one in use with them: a process that
ran one picture of 1024 pixels through sam-vit-huge held 1.2 GiB that nothing was in. Other C libraries are left alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc

_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of glibc's malloc.h
_OWN_PAGES = 1 << 20  # blocks from this size, bytes, get pages of their own; small ones would cost time


def return_what_is_freed() -> None:
    """From now on, in this process, large blocks are given back when they are freed."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, _OWN_PAGES)


def give_back_memory() -> None:
    """Free what only cycles keep alive (torch's graphs do), and hand the heap's empty pages back."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
