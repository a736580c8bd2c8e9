"""Sizes, rates, times and idsets, as people write and read them."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flux_tree import UsageError, units


def test_the_examples_of_the_documentation():
    assert doctest.testmod(units).failed == 0


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("4096", 4096),
        ("512B", 512),
        ("1kB", 1000),
        ("1KB", 1000),
        ("1KiB", 1024),
        ("64k", 65536),
        ("64K", 65536),
        ("256MiB", 256 << 20),
        ("256 MiB", 256 << 20),
        ("  1.5 GB ", 1_500_000_000),
        ("1.1GB", 1_100_000_000),
        ("20GiB", 20 << 30),
        ("2T", 2 << 40),
        ("7EiB", 7 << 60),
        (".5KiB", 512),
        ("1e6", 1_000_000),
        ("1.5e3MB", 1_500_000_000),
    ],
)
def test_sizes(text, count):
    assert units.parse_bytes(text) == count


@pytest.mark.parametrize(
    ("text", "mend"),
    [
        ("", "256MiB"),
        ("MiB", "256MiB"),
        ("-1", "256MiB"),
        ("1,5GB", "KiB"),
        ("nan", "256MiB"),
        ("inf", "256MiB"),
        ("1e999", "8EiB"),
        ("8EiB", "8EiB"),
        ("1.5", "whole"),
        ("64kb", "write kB"),
        ("64mb", "write MB"),
        ("64mib", "write MiB"),
        ("64kib", "write KiB"),
        ("10Gbit", "write GB"),
        ("10 furlongs", "unit 'furlongs' is unknown"),
        ("1 2", "256MiB"),
        ("1\n2", "256MiB"),
        ("٣", "256MiB"),
    ],
)
def test_sizes_that_are_none(text, mend):
    with pytest.raises(UsageError) as info:
        units.parse_bytes(text)
    assert mend in str(info.value)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("10Gbit/s", 1.25e9),
        ("10 Gbit/s", 1.25e9),
        ("10Gbit", 1.25e9),
        ("10Gb/s", 1.25e9),
        ("25Gbps", 3.125e9),
        ("100mbit", 12.5e6),
        ("100mbit/s", 12.5e6),
        ("1.5 GB/s", 1.5e9),
        ("1.5GBps", 1.5e9),
        ("1MiB/s", 1 << 20),
        ("1Mibit/s", (1 << 20) / 8),
        ("11.9MB", 11.9e6),
        ("8bit/s", 1),
        ("1000", 1000),
    ],
)
def test_rates(text, rate):
    assert units.parse_rate(text) == rate


@pytest.mark.parametrize(
    ("text", "mend"),
    [
        ("10G", "10Gbit/s"),
        ("10gb/s", "Gbit/s or GB/s"),
        ("10mbps", "Mbit/s or MB/s"),
        ("0", "above 0"),
        ("0Gbit/s", "above 0"),
        ("-1MB/s", "10Gbit/s"),
        ("1e999", "above 0"),
        ("fast", "10Gbit/s"),
        ("10Gbit/h", "10Gbit/s"),
    ],
)
def test_rates_that_are_none(text, mend):
    with pytest.raises(UsageError) as info:
        units.parse_rate(text)
    assert mend in str(info.value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("60", 60),
        ("0", 0),
        ("1.5s", 1.5),
        ("7ns", 7e-9),
        ("50us", 5e-5),
        ("50µs", 5e-5),
        ("3ms", 3e-3),
        ("2m", 120),
        ("2min", 120),
        ("1h", 3600),
        ("1d", 86400),
    ],
)
def test_times(text, seconds):
    assert units.parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1", "1y", "nan", "1e999", "1:30"])
def test_times_that_are_none(text):
    with pytest.raises(UsageError, match=r"^time '"):
        units.parse_seconds(text)


@pytest.mark.parametrize(
    ("text", "ranks"),
    [
        ("0", [0]),
        ("0-3,5", [0, 1, 2, 3, 5]),
        ("[0-3,5]", [0, 1, 2, 3, 5]),
        (" 5 , 0-1 ", [0, 1, 5]),
        ("1,1,0-1", [0, 1]),
        ("7-7", [7]),
    ],
)
def test_idsets(text, ranks):
    assert units.parse_idset(text, 8) == ranks


@pytest.mark.parametrize(
    ("text", "mend"),
    [
        ("", "0-3,5"),
        (",", "0-3,5"),
        ("1,", "0-3,5"),
        ("a", "'a' is no number"),
        ("-1", "0-3,5"),
        ("1-2-3", "0-3,5"),
        ("3-1", "write 1-3"),
        ("8", "numbers of 0-7"),
        ("0-9999999999", "numbers of 0-7"),
        ("99999999999999999999", "0-3,5"),
    ],
)
def test_idsets_that_are_none(text, mend):
    with pytest.raises(UsageError) as info:
        units.parse_idset(text, 8, "--members")
    assert mend in str(info.value)
    assert str(info.value).startswith("--members '")


@given(st.sets(st.integers(0, 300), min_size=1))
def test_an_idset_comes_back(ranks):
    assert units.parse_idset(units.format_idset(ranks), 301) == sorted(ranks)


@given(st.integers(0, 1 << 62))
def test_a_size_comes_back_within_its_digits(count):
    again = units.parse_bytes(units.format_bytes(count))
    assert abs(again - count) <= 0.006 * count + 0.5


@given(st.floats(1e-8, 1e15), st.booleans())
def test_a_rate_comes_back_within_its_digits(rate, bits):
    text = units.format_rate(rate, bits=bits)
    value, unit = text.split()
    if float(value) >= 1:  # less than a byte a second has fewer digits
        assert units.parse_rate(text) == pytest.approx(rate, rel=0.006)
    assert unit.endswith("bit/s" if bits else "B/s")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (9.9949e-4, "999 us"),
        (0.9994, "999 ms"),
        (0.9996, "1 s"),
        (99.94, "99.9 s"),
        (99.96, "1 min 40 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 00 min"),
        (float("nan"), "-"),
    ],
)
def test_times_for_people(seconds, text):
    assert units.format_seconds(seconds) == text


def test_sizes_for_people():
    assert units.format_bytes(0) == "0 B"
    assert units.format_bytes(1023) == "1023 B"
    assert units.format_bytes(1024) == "1 KiB"
    assert units.format_bytes((1 << 20) - 1) == "1 MiB"
    assert units.format_bytes(1 << 70) == "1024 EiB"
    assert units.format_rate(float("nan")) == "-"
