"""The native core: loads it, and turns its faults into the exceptions of flux-tree."""

from __future__ import annotations

import errno
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import FluxTreeError, UsageError

try:
    from flux_tree._core import ffi, lib
except ImportError as exc:
    raise ImportError(
        f"flux_tree._core, the native core, does not load ({exc}): build it with 'pip install .'"
    ) from None

__all__ = ["check", "ffi", "lib", "pointer"]


def check(rc: int, fault: Any, error: type[FluxTreeError] = UsageError) -> None:
    """Raise what a native function reported, if it failed.

    Parameters
    ----------
    rc : int
        What the function returned; negative is a failure.
    fault : cffi ``struct fault *``
        What the function filled in.
    error : type of FluxTreeError, default UsageError
        The exception for everything but a lack of memory.

    Raises
    ------
    MemoryError
        If the errno of the fault is ENOMEM.
    FluxTreeError
        `error`, with the text and the rank of the fault, after any other failure.
    """
    if rc >= 0:
        return
    text = ffi.string(fault.text).decode(errors="replace")
    if fault.errnum == errno.ENOMEM:
        raise MemoryError(text)
    raise error(text, rank=fault.rank if fault.rank >= 0 else None)


def pointer(ctype: str, array: NDArray[np.generic] | None) -> Any:
    """Return a pointer to the data of `array`, for a call of a native function.

    Parameters
    ----------
    ctype : str
        Pointer type in C, such as ``"int32_t *"``, that fits the dtype of `array`.
    array : ndarray or None
        C-contiguous; the caller keeps it alive for as long as the pointer is used. None gives
        NULL.

    Returns
    -------
    cffi pointer
    """
    if array is None:
        return ffi.NULL
    return ffi.cast(ctype, array.ctypes.data)
