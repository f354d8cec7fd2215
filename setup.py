# SPDX-License-Identifier: LGPL-2.1-or-later
"""What pyproject.toml cannot say: the cffi extension, and the interposer as a preload library."""

from setuptools import Extension, setup

setup(
    cffi_modules=["cdefs/build_libxl.py:ffi"],
    ext_modules=[
        # Not a Python module: a library that `xlmt xl` and `xlmt exec` preload into other
        # programs. An Extension is how setuptools builds and installs one next to the code.
        Extension(
            "xlmt._preload",
            sources=["hooks/interposer.c", "hooks/armed.c", "hooks/preload.c"],
            depends=["hooks/interposer.h"],
            libraries=["xenstore", "dl"],
            extra_compile_args=["-std=gnu11", "-Wall", "-Wextra", "-Werror"],
            extra_link_args=["-Wl,--no-as-needed", "-Wl,-z,defs"],
        )
    ],
)
