"""Builds the native core and, where flux-core is found, the shell plugin; the rest stands in
pyproject.toml.
"""

import subprocess
import sys

from setuptools import setup

modules = ["flux_tree/_native_build.py:ffibuilder"]
try:
    found = subprocess.run(["pkg-config", "--exists", "flux-core", "jansson"]).returncode == 0
except OSError:
    found = False
if found:
    modules.append("flux_tree/_plugin_build.py:ffibuilder")
else:
    print(
        "flux-tree: pkg-config does not find flux-core and jansson: the shell plugin is left out",
        file=sys.stderr,
    )

setup(
    cffi_modules=modules,
    # both modules use the stable ABI, so one wheel serves all versions of Python
    options={"bdist_wheel": {"py_limited_api": "cp39"}},
)
