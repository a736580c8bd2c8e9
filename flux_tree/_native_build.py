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
HEADERS = [
    "fault.h",
    "tree.h",
    "plan.h",
    "shape.h",
    "network.h",
    "estimate.h",
    "choose.h",
    "groups.h",
    "simulate.h",
    "record.h",
    "store.h",
    "conceal.h",
    "node.h",
]
SOURCES = [
    "fault.c",
    "tree.c",
    "plan.c",
    "shape.c",
    "shape_trees.c",
    "shape_double.c",
    "shape_stripes.c",
    "shape_edst.c",
    "shape_rack.c",
    "shape_levels.c",
    "pqueue.c",
    "fabric.c",
    "estimate.c",
    "choose.c",
    "groups.c",
    "groups_file.c",
    "simulate.c",
    "simulate_content.c",
    "sum.c",
    "manifest.c",
    "manifest_codec.c",
    "scan.c",
    "fdcache.c",
    "remove.c",
    "dest.c",
    "openat.c",
    "store.c",
    "store_place.c",
    "store_io.c",
    "store_dest.c",
    "store_resume.c",
    "store_extra.c",
    "store_alike.c",
    "store_seal.c",
    "store_publish.c",
    "store_sync.c",
    "store_contents.c",
    "table.c",
    "cache.c",
    "wire.c",
    "tls.c",
    "conn.c",
    "loop.c",
    "up.c",
    "receive.c",
    "scout.c",
    "down.c",
    "root.c",
    "feed.c",
    "resume.c",
    "digest.c",
    "news.c",
    "record.c",
    "report.c",
    "node.c",
    "payload.c",
    "compose.c",
    "conceal.c",
]

FLAGS = [
    "-std=gnu11",
    "-D_GNU_SOURCE",
    "-O2",
    "-Wall",
    "-Wextra",
    "-fvisibility=hidden",
    "-pthread",
]
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
    depends=[str(path.relative_to(ROOT)) for path in sorted((ROOT / NATIVE).glob("*.h"))],
    libraries=["ssl", "crypto", "m"],
    py_limited_api=True,
    extra_compile_args=FLAGS,
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
