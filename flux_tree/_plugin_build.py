"""Builds ``flux_tree._plugin``, the core with what knows Flux, with cffi in API mode.

The same file is loaded by flux-shell, as the plugin ``tree-bcast``, and by Python. There are three
things that make it so. flux-shell has no Python in it, so the calls of cffi's own part may be
bound only when they are made (``-z lazy``, against the habit of most distributions); Python has
no flux-shell in it, so the symbols of that program are weak (``flux/weak.h``); and both must find
the libflux-core that it was built with (the rpath).
"""

import runpy
import subprocess
from pathlib import Path

from cffi import FFI

# not an import: flux_tree cannot be imported before its core is built
core = runpy.run_path(str(Path(__file__).with_name("_native_build.py")))

FLUX = core["NATIVE"] / "flux"
HEADERS = ["network.h", "flux/network_json.h", "flux/options.h"]
SOURCES = sorted(p.name for p in (core["ROOT"] / FLUX).glob("*.c"))


def pkg_config(*args: str) -> str:
    """Return what pkg-config says of flux-core and jansson."""
    command = ["pkg-config", *args]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


ffibuilder = FFI()
for name in ["fault.h", *HEADERS]:
    ffibuilder.cdef(core["declarations"](core["ROOT"] / core["NATIVE"] / name))
ffibuilder.set_source(
    "flux_tree._plugin",
    "\n".join(f'#include "{name}"' for name in ["fault.h", *HEADERS]),
    sources=[str(core["NATIVE"] / name) for name in core["SOURCES"]]
    + [str(FLUX / name) for name in SOURCES],
    include_dirs=[str(core["NATIVE"])],
    depends=[
        str(p.relative_to(core["ROOT"])) for p in (core["ROOT"] / core["NATIVE"]).rglob("*.h")
    ],
    libraries=["ssl", "crypto", "m"],
    py_limited_api=True,
    extra_compile_args=core["FLAGS"] + pkg_config("--cflags", "flux-core", "jansson").split(),
    extra_link_args=[
        *pkg_config("--libs", "flux-core", "jansson").split(),
        f"-Wl,-rpath,{pkg_config('--variable=libdir', 'flux-core')}",
        "-Wl,-z,lazy",
    ],
)
