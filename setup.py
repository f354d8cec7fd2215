# SPDX-License-Identifier: LGPL-2.1-or-later
"""What pyproject.toml cannot say: the cffi extension, the interposer as a library, where all is.

A package of a distribution has places of its own. It names them in the environment: XLMT_LIBEXEC,
XLMT_SHARE, XLMT_PRELOAD and XLMT_INSTALLED_BY are the constants of xlmt/built.py.
"""

import os
import re
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

PRELOAD = "xlmt._preload"
LIBRARY = "libxlmt-preload.so"


class BuildExt(build_ext):
    """Gives the library a name of its own: no module has it, and no version of Python is in it."""

    def get_ext_filename(self, fullname: str) -> str:
        *package, name = fullname.split(".")
        if name != PRELOAD.rpartition(".")[2]:
            return str(super().get_ext_filename(fullname))  # type: ignore[no-untyped-call]
        return str(Path(*package, LIBRARY))


class BuildPy(build_py):
    """Adds what is for other programs, and says where it is. Not for --editable."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            package = Path(self.build_lib, "xlmt")
            chosen = {"SHARE": "share"} | {
                name.removeprefix("XLMT_"): value
                for name, value in os.environ.items()
                if name
                in {f"XLMT_{key}" for key in ("INSTALLED_BY", "PRELOAD", "SHARE", "LIBEXEC")}
            }
            default, libexec = decide(package / "built.py", chosen)
            for source in (*sorted(Path("hooks").glob("*/*")), Path("kernel/modules-load.conf")):
                copy_shared(source, package / "share" / source, default, libexec)


def decide(built: Path, chosen: dict[str, str]) -> tuple[str, str]:
    """Write the constants; return the folder of under-hook in the sources, and the one chosen."""
    text = built.read_text()
    default = re.findall(r'^LIBEXEC = "(.*)"$', text, re.MULTILINE)[0]
    for name, value in chosen.items():
        text, count = re.subn(rf'^{name} = ".*"$', f'{name} = "{value}"', text, flags=re.MULTILINE)
        if count != 1:
            raise ValueError(f"{built} has no {name}")
    built.unlink()  # it may be a link to the source
    built.write_text(text)
    return default, chosen.get("LIBEXEC", default)


def copy_shared(source: Path, target: Path, default: str, libexec: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(source.read_text().replace(default, libexec))
    target.chmod(0o755 if os.access(source, os.X_OK) else 0o644)


setup(
    # Here, as setuptools before 77 knows no other spelling than one that those to come refuse.
    license="LGPL-2.1-or-later",
    cffi_modules=["cdefs/build_libxl.py:ffi"],
    cmdclass={"build_ext": BuildExt, "build_py": BuildPy},
    ext_modules=[
        # No Python module, but an Extension is how setuptools builds and installs a library next
        # to the code.
        Extension(
            PRELOAD,
            sources=["hooks/interposer.c", "hooks/armed.c", "hooks/preload.c"],
            depends=["hooks/interposer.h"],
            libraries=["xenstore", "dl"],
            extra_compile_args=["-std=gnu11", "-Wall", "-Wextra", "-Werror"],
            extra_link_args=["-Wl,--no-as-needed", "-Wl,-z,defs", "-Wl,-z,relro,-z,now"],
        )
    ],
)
