"""What -o tree-bcast takes, asked of the very code that the shells run."""

from __future__ import annotations

import json

import pytest

from flux_tree import Topology, UsageError, strategies, units
from flux_tree._native import ffi as core_ffi

plugin = pytest.importorskip(
    "flux_tree._plugin", reason="the plugin is not built: install flux-core to run this"
)


def refusal(option: object) -> str:
    """Return why an option is refused, or an empty string."""
    fault = plugin.ffi.new("struct fault *")
    if plugin.lib.options_check(json.dumps(option).encode(), fault) == 0:
        return ""
    text = plugin.ffi.string(fault.text).decode()
    assert text
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    "option",
    [
        1,
        "binomial",
        "kary:3",
        "chain,file=/a b/c,overwrite,timeout=2m",
        "file=/x",
        ",file=/x",
        {},
        {"strategy": "edst", "file": "/x", "chunk-size": 65536, "overwrite": 1},
        {"transport": "content", "strategy": "middle-leaves:strict", "window": 4},
        {"destination": 5, "members": 3, "security": "none", "progress": 0},
        "auto,file=/x,network=/y,racks=^r",
        {"strategy": "auto", "racks": [0, 0, "b"], "network": {"version": 1, "bandwidth": 1e9}},
        {"strategy": "rack", "racks": "racks/of/hosts"},
        {"resume": True, "fsync": 1, "digest": "sha256:" + "0aF9" * 16, "file": "/x"},
        {"on-failure": "continue", "min-ranks": 3},
        "chain,transport=content,fsync,on-failure=continue",
    ],
)
def test_accepted(option):
    assert refusal(option) == ""


@pytest.mark.parametrize(
    ("option", "text"),
    [
        (None, "give a strategy"),
        (2, "give a strategy"),
        ([], "give a strategy"),
        ("nope", "there is no 'nope'"),
        ("chain,bogus=1", "there is no 'bogus'"),
        ("chain,chain", "there is no 'chain'"),
        ("my_module:MyClass", "'flux-tree env'"),
        ({"file": ["/x"]}, "tree-bcast.file="),
        ({"file": ""}, "is empty"),
        ({"overwrite": 2}, "use false or true"),
        ({"timeout": 0}, "give a time"),
        ({"timeout": -1}, "give a time"),
        ({"plan": "x"}, "Plan.to_dict"),
        ({"plan": {}}, "is no plan"),
        ({"plan": {"parents": [[-1, 2, 1]], "deliver": [1, 1, 1]}}, ""),
        ({"plan": {"parents": [[-1, 0], [0]], "deliver": [1, 1]}}, "is no plan"),
        ({"plan": {"parents": [[-1, 0]], "deliver": [1]}}, "is no plan"),
        ({"plan": {"parents": [[-1, 0]], "deliver": [1, 1], "x": 1}}, "is no plan"),
        ("auto,transport=content", "strategy=auto: transport=content goes"),
        ("auto:2", "it takes no argument, write 'auto'"),
        ("otto", "middle-leaves, auto"),
        ("chain,racks=r", "racks=r: leave it out"),
        ({"strategy": "rack:2", "racks": [0]}, "racks=...: leave it out"),
        ("rack,network=/x", "network=/x: leave it out"),
        ({"strategy": "auto", "racks": None}, "give a text"),
        ({"strategy": "auto", "network": ""}, "is empty"),
        ({"resume": "yes"}, "use false or true"),
        ({"digest": "sha256:" + "0" * 63}, "give sha256: and the 64 hex digits"),
        ({"digest": "sha256:" + "0" * 62 + "+1"}, "give sha256: and the 64 hex digits"),
        ({"digest": "0" * 64}, "give sha256: and the 64 hex digits"),
        ({"digest": "md5:" + "0" * 64}, "give sha256: and the 64 hex digits"),
        ({"min-ranks": 0, "on-failure": "continue"}, "a whole number of at least 1"),
        ({"min-ranks": 3}, "min-ranks=3: leave it out, it is for on-failure=continue"),
        ({"transport": "content", "resume": 1}, "resume=true: transport=content fetches all"),
        ({"transport": "content", "digest": "sha256:" + "0" * 64}, "use transport=direct"),
        ({"strategy": "x" * 5000}, "strategy 'xxx"),
        ({"x" * 5000: 1}, "there is no 'xxx"),
    ],
)
def test_refused(option, text):
    assert text in refusal(option)
    assert refusal(option)


def test_not_json():
    fault = plugin.ffi.new("struct fault *")
    assert plugin.lib.options_check(b"{", fault) < 0


@pytest.mark.parametrize("spec", ["chain", "two-tree", "edst", "middle-leaves:strict"])
def test_a_plan_made_at_submission(spec):
    plan = strategies.plan(spec, Topology.from_spec("kary:2", 9))
    assert refusal({"plan": plan.to_dict()}) == ""
    assert "the plan says already" in refusal({"plan": plan.to_dict(), "members": "1-2"})


def accepted_by(parse, text) -> bool:
    try:
        parse(text)
    except UsageError:
        return False
    return True


SIZES = ["64K", "64KiB", "64kB", "0.1MB", "1MiB", "65536", "65536B", "1e5", "70000.5", "64kb"]
SIZES += ["1 MiB", " 1MiB ", "64Q", "", "-1", "+70000", "0x10000", "1M i", "64 K", "inf", "1MiBB"]


@pytest.mark.parametrize("text", SIZES)
def test_sizes_are_those_of_python(text):
    if text:
        assert (refusal({"chunk-size": text}) == "") == accepted_by(units.parse_bytes, text)


RATES = ["10Gbit/s", "100mbit", "25Gbps", "1.5 GB/s", "900MiB/s", "8Kibits/s", "12500000", "5b/s"]
RATES += ["5Mb", "5mb", "10G", "1 G i B", "0", "0Gbit/s", "fast", "10Gbit/h", "iB/s", "7Bit", "ps"]
RATES += ["1e400", "1e30PB/s", "-5B/s", "/s", "1PiB", "3 B / s"]


@pytest.mark.parametrize("text", RATES)
def test_rates_are_those_of_python(text):
    assert (refusal({"bandwidth": text}) == "") == accepted_by(units.parse_rate, text)


TIMES = [
    "60",
    "1.5s",
    "500ms",
    "2m",
    "2min",
    "1h",
    "1d",
    "5us",
    "5 s",
    "5x",
    "-1",
    "s",
    "1e1s",
    ".5",
]


@pytest.mark.parametrize("text", TIMES)
def test_times_are_those_of_python(text):
    least = 1e-3
    right = accepted_by(units.parse_seconds, text) and units.parse_seconds(text) >= least
    assert (refusal({"timeout": text}) == "") == right


@pytest.mark.parametrize("text", ["0-3,7", "[0-3,7]", "5", "3-1", "a", "1,", "1-", "[1", "1]"])
def test_lists_of_ranks_are_those_of_python(text):
    right = accepted_by(lambda t: units.parse_idset(t, 100), text)
    assert (refusal({"members": text}) == "") == right


def test_both_modules_can_be_loaded():
    """They hold the same code twice, each for itself."""
    assert core_ffi is not plugin.ffi
