"""The native core: loads it, and turns its faults into the exceptions of flux-tree."""

from __future__ import annotations

import errno
import os
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

__all__ = ["check", "ffi", "int32_array", "lib", "pointer"]


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
    text = os.fsdecode(ffi.string(fault.text))
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


def int32_array(values: Any, what: str, error: type[FluxTreeError]) -> NDArray[np.int32]:
    """Return `values` as a new read-only int32 array.

    Parameters
    ----------
    values : array_like of int
        Any shape.
    what : str
        What a message calls them.
    error : type of FluxTreeError
        The exception for values that are not whole numbers of 32 bits, or not an array.

    Returns
    -------
    ndarray of int32
        C-contiguous, of the same shape.
    """
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, OverflowError) as exc:
        raise error(f"{what}: not an array of whole numbers ({exc})") from None
    if array.dtype.kind not in "iu":
        raise error(f"{what}: not an array of whole numbers but of {array.dtype}, give ranks")
    bounds = np.iinfo(np.int32)
    if array.size and (array.min() < bounds.min or array.max() > bounds.max):
        raise error(f"{what}: a number does not fit in 32 bits, give ranks")
    result = np.array(array, dtype=np.int32, order="C")
    result.flags.writeable = False
    return result
