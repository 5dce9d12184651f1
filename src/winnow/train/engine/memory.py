"""What the C library does with memory that a training frees."""

from __future__ import annotations

import ctypes

TRIM_THRESHOLD, MMAP_MAX = -1, -4
"""Of `mallopt`, in malloc.h of the GNU C library."""
LIBRARY = ctypes.CDLL(None)


def keep_freed_memory() -> None:
    """Let this process keep what it frees from now on for what it takes next; what it has freed before goes
    back. Does nothing without the GNU C library. For every repetition anew: what is kept can lie in pieces.

    Every step of a training takes and frees the same tensors, many of some megabytes. By default each of them
    is handed back to the kernel, which clears all its pages before it gives them out again.
    """
    give_back_memory()
    if hasattr(LIBRARY, "mallopt"):
        LIBRARY.mallopt(MMAP_MAX, 0)
        LIBRARY.mallopt(TRIM_THRESHOLD, 2**31 - 1)


def give_back_memory() -> None:
    """Hand what was freed back to the kernel all the same, once: what is held then is in use."""
    if hasattr(LIBRARY, "malloc_trim"):
        LIBRARY.malloc_trim(0)
