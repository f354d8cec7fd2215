# SPDX-License-Identifier: LGPL-2.1-or-later
"""Build xlmt.libxl._libxl: libxl for Python, with the interposer compiled in.

API mode: the C compiler reads the installed headers and fills in every `...` of the
declarations beside this file, so the extension fits the libxl it was built against and no other
(libxl promises a stable API, not an ABI).

The interposer works because the extension itself defines xs_transaction_start() and xs_rm() and is
linked to libxenlight: the dynamic linker looks for libxenlight's symbols in the extension first.
"""

import pathlib

import cffi

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
DECLARATIONS = (
    "xentoollog.h",
    "libxl.h",
    "libxl_event.h",
    "libxl_utils.h",
    "libxlutil.h",
    "interposer.h",
)

ffi = cffi.FFI()
for header in DECLARATIONS:
    ffi.cdef((HERE / header).read_text())
ffi.set_source(
    "xlmt.libxl._libxl",
    (HERE / "glue.h").read_text(),
    # Relative, as setuptools wants them: a build runs in the root of the source tree.
    sources=["hooks/interposer.c", "hooks/armed.c"],
    depends=["hooks/interposer.h", *(f"cdefs/{name}" for name in (*DECLARATIONS, "glue.h"))],
    include_dirs=[str(ROOT / "hooks")],
    libraries=["xenlight", "xlutil", "xenstore", "dl"],
    extra_compile_args=[
        "-std=gnu11",
        "-Wall",
        "-Wextra",
        "-Wno-unused-parameter",
        "-Wno-missing-field-initializers",
    ],
    # Some distributions link with --as-needed, which would drop libxenstore's place behind us.
    extra_link_args=["-Wl,--no-as-needed"],
)

if __name__ == "__main__":
    ffi.compile(verbose=True)
