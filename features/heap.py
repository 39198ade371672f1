"""What libraries keep of memory where arrays of ever new sizes come and go."""

import ctypes
import os
import sys
from collections.abc import Callable

MAPPED_BYTES = 8 * 2**20
"""Arrays from this size on are mapped, each on its own, and given back when they are freed.

At 4 MB scoring took a quarter longer, at 1 MB two thirds: every array begins with new pages."""

KERNELS_KEPT = 32
"""Kernels that oneDNN keeps, each made for arrays of one size; 1,024 if it is not told.

No two batches are of a size, so a kernel (in the network those of GELU) is hardly ever used by
another batch. Each holds small blocks of the heap, and arrays cannot grow across them: memory
rose with every batch. With 64 kernels it still did."""

_M_MMAP_THRESHOLD = -3  # of glibc's malloc.h


def map_large_arrays() -> None:
    """Keep large arrays out of the heap, for the rest of the process.

    glibc raises its limit for mapping to the size of whatever mapped array was freed, up to 32 MB;
    from then on arrays of a shard lie in the heap, between small objects that live longer, and
    what they leave is too small for those of the next shard.
    """
    mallopt = _glibc("mallopt")
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, MAPPED_BYTES)


def keep_few_kernels() -> None:
    """Let oneDNN keep few kernels, unless the environment says how many.

    It is told by a variable of the environment, for all of this process and those it starts, and
    reads it once: where torch has computed before (in a notebook, say), nothing changes.
    """
    if "DNNL_PRIMITIVE_CACHE_CAPACITY" not in os.environ:  # its name of before, which still counts
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KERNELS_KEPT))


def return_memory() -> None:
    """Give freed memory back to the system: the heap keeps what no later array fits into."""
    trim = _glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _glibc(name: str) -> Callable[..., int] | None:
    """A function of glibc; None on another system, or with musl, which has and needs none."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
