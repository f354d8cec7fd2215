# SPDX-License-Identifier: LGPL-2.1-or-later
"""The module and the model that it runs in, compiled under a sanitizer. See README.md."""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

HERE = Path(__file__).parent
MODULE = HERE.parents[1] / "kernel"

COMMON = (
    "-std=gnu11",
    "-g",
    "-O1",
    "-fPIC",
    "-Wall",
    "-Werror",
    "-fno-omit-frame-pointer",
    "-fno-optimize-sibling-calls",  # who calls is known by where a call returns to
)
#: What a driver does with its own data is looked at, too.
INSTRUMENTED = {"plain.c"}


class Sanitizer(StrEnum):
    """One of the two that cannot be had at once; the first brings UBSan along."""

    ASAN = "asan"
    TSAN = "tsan"

    @property
    def flags(self) -> tuple[str, ...]:
        if self is Sanitizer.TSAN:
            return ("-fsanitize=thread",)
        return ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")

    @property
    def model_flags(self) -> tuple[str, ...]:
        """The model's: TSan is told by hand what orders what, and must not see it take turns."""
        return ("-DMODEL_TSAN",) if self is Sanitizer.TSAN else self.flags


@dataclass(frozen=True)
class Model:
    """A model that is built."""

    program: Path
    module: Path
    sanitizer: Sanitizer

    def command(self, *options: str, control: bool = False) -> list[str]:
        module = [] if control else ["-m", str(self.module)]
        return [str(self.program), *module, *options]


def build(folder: Path, sanitizer: Sanitizer, sources: Path = MODULE) -> Model:
    """Compile into a folder. Raises CalledProcessError, after the compiler's words."""
    folder.mkdir(parents=True, exist_ok=True)
    objects = [_model_object(folder, sanitizer, source) for source in sorted(HERE.glob("*.c"))]
    program = folder / "model"
    _gcc(*sanitizer.flags, "-rdynamic", "-o", program, *objects, "-ldl")
    return Model(program, build_module(folder, sanitizer, sources), sanitizer)


def _model_object(folder: Path, sanitizer: Sanitizer, source: Path) -> Path:
    target = folder / f"{source.stem}.o"
    flags = sanitizer.flags if source.name in INSTRUMENTED else sanitizer.model_flags
    _gcc(*flags, "-Wextra", "-c", "-o", target, source)
    return target


def build_module(folder: Path, sanitizer: Sanitizer, sources: Path) -> Path:
    """Compile the module alone, for a model that is there. Raises as build() does."""
    headers = folder / "include"
    for name in set(_includes(sources)):
        header = headers / name
        header.parent.mkdir(parents=True, exist_ok=True)
        header.write_text(f'#include "{HERE}/kernel.h"\n')
    target = folder / "xen_mtwatch.so"
    files = sorted(sources.glob("*.c"))
    arguments = ("-shared", f"-I{headers}", f"-I{HERE}", f"-I{sources}")
    lenient = () if sources == MODULE else ("-Wno-error",)  # a mutant leaves things unused
    _gcc(*sanitizer.flags, *arguments, *lenient, "-o", target, *files)
    return target


def _includes(sources: Path) -> Iterator[str]:
    for path in [*sources.glob("*.c"), *sources.glob("*.h")]:
        yield from re.findall(r"#include <([^>]+)>", path.read_text())


def _gcc(*arguments: str | Path) -> None:
    subprocess.run(["gcc", *COMMON, *arguments], check=True, timeout=300)
