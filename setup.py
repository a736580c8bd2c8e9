"""Builds the native core; everything else stands in pyproject.toml."""

from setuptools import setup

setup(
    cffi_modules=["flux_tree/_native_build.py:ffibuilder"],
    # the core uses the stable ABI, so one wheel serves all versions of Python
    options={"bdist_wheel": {"py_limited_api": "cp39"}},
)
