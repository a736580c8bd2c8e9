"""Builds ``flux_tree._core``, the native core, with cffi in API mode.

The declarations that Python sees are the parts of the headers in ``shell-plugin/`` that stand
between ``/* cffi begin */`` and ``/* cffi end */``, so C and Python cannot drift apart.
"""

import os
import re
from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).resolve().parent.parent
# setuptools wants paths relative to setup.py
NATIVE = Path("shell-plugin")
HEADERS = ["fault.h", "tree.h", "shape.h"]
SOURCES = ["fault.c", "tree.c", "shape.c"]

FLAGS = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-fvisibility=hidden", "-pthread"]
if os.environ.get("FLUX_TREE_WERROR"):
    FLAGS.append("-Werror")


def declarations(header: Path) -> str:
    """Return the part of `header` that is meant for cffi."""
    text = header.read_text()
    parts = re.findall(r"/\* cffi begin \*/(.*?)/\* cffi end \*/", text, re.S)
    return "\n".join(parts)


ffibuilder = FFI()
for name in HEADERS:
    ffibuilder.cdef(declarations(ROOT / NATIVE / name))
ffibuilder.set_source(
    "flux_tree._core",
    "\n".join(f'#include "{name}"' for name in HEADERS),
    sources=[str(NATIVE / name) for name in SOURCES],
    include_dirs=[str(NATIVE)],
    extra_compile_args=FLAGS,
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
