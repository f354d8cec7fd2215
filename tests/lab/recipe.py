# SPDX-License-Identifier: LGPL-2.1-or-later
"""A kernel for dom0 that is built here: Debian's source, with patches and a configuration."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.lab import cache
from tests.lab.release import Release
from tests.lab.root import GUEST, debootstrap, in_root
from tests.lab.source import Source, linux_source

FOLDER = GUEST / "kernel"
SCRIPT = FOLDER / "build.sh"
DOM0 = FOLDER / "dom0.config"
TOOLS = (
    *("gcc", "libc6-dev", "make", "flex", "bison", "bc", "perl-base", "kmod", "patch", "xz-utils"),
    *("libelf-dev", "libssl-dev"),  # for objtool, and for the scripts that sign modules
)
DEADLINE_S = 3 * 3600.0  # two slow cores, and other work on them


@dataclass(frozen=True)
class Recipe:
    """The kernel `name`, built by the compiler of `release`; `config` is more than DOM0."""

    name: str
    release: Release
    source: Source
    patches: tuple[Path, ...]
    config: Path


def built(recipe: Recipe) -> Path:
    """The layer of the kernel; half an hour of two cores at the first call.

    Raises LabUnavailable when a tool or the privilege to make it is missing, LabError with the
    build's output when it does not build.
    """
    source = linux_source(recipe.source)
    parts: tuple[str | Path, ...] = (*TOOLS, SCRIPT, DOM0, recipe.config, *recipe.patches)
    label = f"building the {recipe.name} kernel (once, 15 to 30 minutes)"
    return cache.entry(
        f"{recipe.name}-kernel",
        cache.digest(source.name, *parts),
        label,
        lambda tmp: _build(recipe, source, tmp),
        keep=2,
    )


def _build(recipe: Recipe, source: Path, tmp: Path) -> None:
    build, made_by = tmp / ".build", tmp / ".recipe"
    for folder in (build, made_by, made_by / "patches"):
        folder.mkdir()
    (made_by / "config").write_text(DOM0.read_text() + recipe.config.read_text())
    for patch in recipe.patches:
        shutil.copy(patch, made_by / "patches")
    binds = {source: "/source", made_by: "/recipe", build: "/build", tmp: "/layer"}
    log = cache.folder() / f"{recipe.name}-kernel.log"
    log.unlink(missing_ok=True)
    in_root(_tools(recipe.release), SCRIPT, binds, log, DEADLINE_S)
    shutil.rmtree(build)
    shutil.rmtree(made_by)


def _tools(release: Release) -> Path:
    """A root with what a kernel's build needs, and the folders that it is shown."""
    folders = '--customize-hook=mkdir "$1/source" "$1/recipe" "$1/build" "$1/layer"'

    def make(tmp: Path) -> None:
        debootstrap("kernel-tools", release.codename, tmp, TOOLS, "--variant=minbase", folders)

    key = cache.digest(release.codename, *TOOLS)
    return cache.entry("kernel-tools", key, "fetching a kernel's build tools", make)
