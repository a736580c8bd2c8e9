"""Builds the native core; everything else stands in pyproject.toml."""

from setuptools import setup

setup(cffi_modules=["flux_tree/_native_build.py:ffibuilder"])
