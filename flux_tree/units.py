"""Sizes, rates, times and lists of ranks: as people write them, and as people read them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from fractions import Fraction

from .errors import UsageError

__all__ = [
    "format_bytes",
    "format_idset",
    "format_rate",
    "format_seconds",
    "parse_bytes",
    "parse_idset",
    "parse_rate",
    "parse_seconds",
]

_NUMBER = re.compile(r"\s*(\d+\.?\d*(?:[eE][+-]?\d{1,3})?|\.\d+)\s*([^\d\s.].*?)?\s*", re.ASCII)
_SIZE = re.compile(r"(?:([kKMGTPE])(i?))?(B?)")
_RATE = re.compile(r"([kKmMgGtTpPeE]?)(i?)(bit|bits|Bit|b|B)(/s|ps)?")
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5, "e": 6}
_SECONDS = {
    "ns": Fraction(1, 10**9),
    "us": Fraction(1, 10**6),
    "µs": Fraction(1, 10**6),
    "μs": Fraction(1, 10**6),
    "ms": Fraction(1, 1000),
    "": Fraction(1),
    "s": Fraction(1),
    "m": Fraction(60),
    "min": Fraction(60),
    "h": Fraction(3600),
    "d": Fraction(86400),
}
# a rank is an int32 everywhere
_MAX_RANK = 2**31 - 1
_MAX_BYTES = 2**63 - 1


def parse_bytes(text: str) -> int:
    """Return the number of bytes that a text such as "256MiB" stands for.

    Parameters
    ----------
    text : str
        A number, and optionally a unit: kB, MB, GB, TB, PB, EB are powers of 1000 (SI); KiB, MiB,
        GiB, TiB, PiB, EiB are powers of 1024 (IEC). The letter alone, as in "64K" or "1G", is a
        power of 1024, as in the options of Flux and of dd.

    Returns
    -------
    int
        Bytes, rounded to a whole number.

    Raises
    ------
    UsageError
        If it is no size, one in bits, or of 2^63 bytes or more.

    Examples
    --------
    >>> parse_bytes("256MiB"), parse_bytes("1.5 GB"), parse_bytes("64K")
    (268435456, 1500000000, 65536)
    """
    number, unit = _split(text, "size", "256MiB")
    match = _SIZE.fullmatch(unit)
    if match is None:
        raise UsageError(f"size '{text}': {_bad_size_unit(unit)}")
    prefix, binary, byte = match[1] or "", match[2], match[3]
    if not prefix and number.denominator != 1:
        raise UsageError(f"size '{text}': no whole number of bytes, write one such as 256MiB")
    base = 1000 if byte and not binary else 1024
    value = round(number * base ** _POWER[prefix.lower()])
    if value > _MAX_BYTES:
        raise UsageError(f"size '{text}': more than any file has, give less than 8EiB")
    return value


def parse_rate(text: str) -> float:
    """Return the bytes per second that a text such as "10Gbit/s" stands for.

    Parameters
    ----------
    text : str
        A number and a unit, in bits ("100mbit", "10Gbit/s", "25Gbps") or in bytes ("1.5 GB/s",
        "900MiB/s"); "/s" may be left out. Prefixes are powers of 1000, with an i of 1024. Without
        any unit it is bytes per second.

    Returns
    -------
    float
        Bytes per second, above 0.

    Raises
    ------
    UsageError
        If it is no rate, 0, or if it does not tell bits from bytes.

    Examples
    --------
    >>> parse_rate("10Gbit/s"), parse_rate("1.5 GB/s")
    (1250000000.0, 1500000000.0)
    """
    number, unit = _split(text, "rate", "10Gbit/s")
    if not unit:
        value = number
    else:
        match = _RATE.fullmatch(unit.replace(" ", ""))
        if match is None:
            raise UsageError(
                f"rate '{text}': unit '{unit}' is unknown, write it as 10Gbit/s or 1.2GB/s"
            )
        prefix, binary, what = match[1], match[2], match[3]
        if what == "b" and prefix.islower():
            letter = prefix if prefix == "k" else prefix.upper()
            raise UsageError(
                f"rate '{text}': bits or bytes? write {letter}{binary}bit/s or {letter}{binary}B/s"
            )
        value = number * (1024 if binary else 1000) ** _POWER[prefix.lower()]
        if what != "B":
            value /= 8
    if not 0 < value < 1 << 80:
        raise UsageError(f"rate '{text}': must be above 0, such as 10Gbit/s")
    return float(value)


def parse_seconds(text: str) -> float:
    """Return the seconds that a text such as "50us" or "2m" stands for.

    Parameters
    ----------
    text : str
        A number, and optionally one of ns, us, ms, s, m (or min), h, d, as in Flux's own options.
        Seconds if there is none.

    Returns
    -------
    float
        Seconds, 0 or more.

    Raises
    ------
    UsageError
        If it is no time.

    Examples
    --------
    >>> parse_seconds("50us"), parse_seconds("2m")
    (5e-05, 120.0)
    """
    number, unit = _split(text, "time", "1.5s")
    if unit not in _SECONDS:
        raise UsageError(f"time '{text}': unit '{unit}' is unknown, use us, ms, s, m, h or d")
    value = number * _SECONDS[unit]
    if value > 1 << 62:
        raise UsageError(f"time '{text}': longer than anybody waits, give fewer seconds")
    return float(value)


def parse_idset(text: str, size: int, what: str = "ranks") -> list[int]:
    """Return the ranks that a text such as "0-3,5" stands for.

    Parameters
    ----------
    text : str
        Numbers and ranges, separated by commas, as in Flux (RFC 22); in brackets or not.
    size : int
        They must all be of 0..size-1.
    what : str, default "ranks"
        What a message calls them.

    Returns
    -------
    list of int
        Ascending, each one once.

    Raises
    ------
    UsageError
        If it is no such list, or one of them is not of 0..size-1.

    Examples
    --------
    >>> parse_idset("0-3,5", 8)
    [0, 1, 2, 3, 5]
    """
    inner = text.strip()
    if inner.startswith("[") and inner.endswith("]"):
        inner = inner[1:-1]
    found: set[int] = set()
    for part in inner.split(","):
        match = re.fullmatch(r"\s*(\d{1,10})(?:\s*-\s*(\d{1,10}))?\s*", part, re.ASCII)
        if match is None:
            raise UsageError(
                f"{what} '{text}': '{part.strip()}' is no number or range, write it as 0-3,5"
            )
        low = int(match[1])
        high = low if match[2] is None else int(match[2])
        if high < low:
            raise UsageError(f"{what} '{text}': {low}-{high} runs backwards, write {high}-{low}")
        if high >= min(size, _MAX_RANK + 1):
            raise UsageError(f"{what} '{text}': {high} is too high, give numbers of 0-{size - 1}")
        found.update(range(low, high + 1))
    return sorted(found)


def format_idset(ranks: Iterable[int]) -> str:
    """Return ranks as a text such as "0-3,5".

    Parameters
    ----------
    ranks : iterable of int
        In any order.

    Returns
    -------
    str
        What `parse_idset` reads; empty for no rank.

    Examples
    --------
    >>> format_idset([5, 0, 1, 2, 3])
    '0-3,5'
    """
    runs: list[list[int]] = []
    for rank in sorted(set(map(int, ranks))):
        if runs and runs[-1][1] == rank - 1:
            runs[-1][1] = rank
        else:
            runs.append([rank, rank])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


def format_bytes(count: float) -> str:
    """Return a size for people, in powers of 1024.

    Parameters
    ----------
    count : float
        Bytes.

    Returns
    -------
    str

    Examples
    --------
    >>> format_bytes(268435456), format_bytes(52228679)
    ('256 MiB', '49.8 MiB')
    """
    value, prefix = _scaled(count, 1024, ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"))
    return f"{value} {prefix}B"


def format_rate(rate: float, *, bits: bool = False) -> str:
    """Return a rate for people, in powers of 1000.

    Parameters
    ----------
    rate : float
        Bytes per second.
    bits : bool, default False
        In bits per second, as NICs are named.

    Returns
    -------
    str
        "-" for NaN.

    Examples
    --------
    >>> format_rate(1.25e9), format_rate(1.25e9, bits=True)
    ('1.25 GB/s', '10 Gbit/s')
    """
    if math.isnan(rate):
        return "-"
    value, prefix = _scaled(8 * rate if bits else rate, 1000, ("", "k", "M", "G", "T", "P", "E"))
    return f"{value} {prefix}{'bit/s' if bits else 'B/s'}"


def format_seconds(seconds: float) -> str:
    """Return a time for people.

    Parameters
    ----------
    seconds : float
        Seconds, 0 or more.

    Returns
    -------
    str
        "-" for NaN.

    Examples
    --------
    >>> [format_seconds(s) for s in (5e-05, 0.4688, 12.345, 125, 4000)]
    ['50 us', '469 ms', '12.3 s', '2 min 05 s', '1 h 07 min']
    """
    if math.isnan(seconds):
        return "-"
    if seconds >= 3599.5:
        minutes = round(seconds / 60)
        return f"{minutes // 60} h {minutes % 60:02} min"
    if seconds >= 99.95:
        whole = round(seconds)
        return f"{whole // 60} min {whole % 60:02} s"
    if seconds >= 0.9995 or seconds == 0:
        return f"{_digits(seconds)} s"
    if seconds >= 0.9995e-3:
        return f"{_digits(seconds * 1e3)} ms"
    return f"{_digits(seconds * 1e6)} us"


def _split(text: str, what: str, example: str) -> tuple[Fraction, str]:
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise UsageError(f"{what} '{text}': not a number and a unit, write it as {example}")
    return Fraction(match[1].rstrip(".")), match[2] or ""


def _bad_size_unit(unit: str) -> str:
    """Return what is wrong with the unit of a size, and the mend."""
    match = re.fullmatch(r"([kmgtpe]?)(i?)(b|bit|bits)", unit, re.IGNORECASE)
    if match:
        letter = match[1].upper() if match[1] not in ("k", "K") else "K" if match[2] else "k"
        right = f"{letter}{match[2].lower()}B"
        return f"'{unit}' is not a unit of bytes (a small b is bits), write {right}"
    return f"unit '{unit}' is unknown, use kB, MB, GB, TB or KiB, MiB, GiB, TiB"


def _scaled(value: float, base: int, prefixes: tuple[str, ...]) -> tuple[str, str]:
    step = 0
    while step < len(prefixes) - 1 and abs(value) >= base - 0.5:
        value /= base
        step += 1
    return _digits(value), prefixes[step]


def _digits(value: float) -> str:
    """Return three digits of a number, without an exponent and without zeros behind a point."""
    if value >= 99.95:
        return f"{value:.0f}"
    text = f"{value:.{2 if value < 9.995 else 1}f}"
    return text.rstrip("0").rstrip(".")
