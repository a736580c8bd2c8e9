"""The public face of the package."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import flux_tree


def test_all_is_sorted_and_there():
    assert flux_tree.__all__ == sorted(flux_tree.__all__)
    for name in flux_tree.__all__:
        assert getattr(flux_tree, name) is not None


def test_importing_costs_nothing():
    code = "import sys, flux_tree; print('numpy' in sys.modules, 'flux' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["False", "False"]


def test_errors_are_one_tree_with_exit_codes():
    for name in flux_tree.__all__:
        value = getattr(flux_tree, name)
        if isinstance(value, type) and issubclass(value, Exception):
            assert issubclass(value, flux_tree.FluxTreeError)
            assert value.exit_code != 0


def test_every_field_of_a_record_is_documented():
    source = Path(importlib.import_module("flux_tree._records").__file__).read_text()
    table = source[source.index("#: ====") : source.rindex("#: ====")]
    words = set(re.findall(r"\w+", table))
    assert set(flux_tree.RECORD_DTYPE.names) <= words
