# SPDX-License-Identifier: LGPL-2.1-or-later
"""xlmt as dom0 has it: compiled and installed inside dom0's root, in layers over it.

deps     what xlmt needs, fetched by this machine's own pip, installed offline inside the root
product  xlmt itself: a change of the sources rebuilds only this
module   the kernel half, and the modules that only tests load, for dom0's kernel
installed  Debian's packages of both, by apt, in a host that systemd boots

A layer is a folder that mirrors /, laid over the root when the VM mounts it.
"""

import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

from tests.lab import cache
from tests.lab.errors import LabError
from tests.lab.kernels import Kernel
from tests.lab.release import Release
from tests.lab.root import GUEST, in_root
from tests.packages.build import packages_of

REPO = Path(__file__).resolve().parents[2]
PLATFORMS = (
    "manylinux2014_x86_64",
    "manylinux_2_28_x86_64",
)  # what Debian's libc can load
SOURCES = (
    *("pyproject.toml", "setup.py", "README.md", "LICENSE", "xlmt", "cdefs", "hooks", "man"),
    "kernel",  # of which the build takes what has it loaded at boot
)
KERNEL_SOURCES = ("kernel", "tests/lab/kmod")


def product_layers(root: Path, kernel: Kernel | None, repo: Path = REPO) -> list[Path]:
    """The layers that put the project at `repo` into dom0, uppermost first.

    The kernel modules are for `kernel`; there are none without. Raises LabError with the build's
    output when something does not build.
    """
    deps = _deps(root, repo)
    layers = [_product(root, deps, repo), deps]
    kernel_sources = [repo / name for name in KERNEL_SOURCES if (repo / name / "Kbuild").exists()]
    if kernel and kernel_sources:
        layers.insert(0, _modules(root, kernel, kernel_sources))
    return layers


def _deps(root: Path, repo: Path) -> Path:
    project = tomllib.loads((repo / "pyproject.toml").read_text())
    needed = sorted(project["project"].get("dependencies", []))
    build = sorted({*project["build-system"]["requires"], "wheel"})
    script = GUEST / "build-deps.sh"
    key = cache.digest(root.name, *needed, "to build:", *build, script)

    def make(tmp: Path) -> None:
        log = _log("deps")
        wheels = tmp / "wheels"
        _download(python_of(root), [*needed, *build], wheels, log)
        (wheels / "needed.txt").write_text("\n".join(needed))
        (wheels / "build.txt").write_text("\n".join(build))
        binds = {wheels: "/wheels"}
        for venv in ("xlmt", "build"):
            (tmp / "opt" / venv).mkdir(parents=True)
            binds[tmp / "opt" / venv] = f"/opt/{venv}"
        in_root(root, script, binds, log)
        shutil.rmtree(wheels)

    return cache.entry("deps", key, "installing xlmt's dependencies for dom0 (once)", make)


def installed_layer(root: Path, release: Release) -> Path:
    """What apt has made of `root` that installed the project's packages.

    Raises LabError with the build's output when something does not build.
    """
    packages, script = packages_of(release.codename), GUEST / "install-packages.sh"

    def make(target: Path) -> None:
        log = _log("install")
        cache.contained(["sh", *map(str, (script, root, packages, target))], log)
        shutil.rmtree(target / "work")
        (target / "root").rmdir()

    key = cache.digest(root.name, packages.name, script)
    return cache.entry("installed", key, "installing xlmt for dom0 with apt", make) / "layer"


def python_of(root: Path) -> str:
    """The version of Python that python3 is there, such as 3.13."""
    return (root / "usr/bin/python3").readlink().name.removeprefix("python")


def _download(python: str, requirements: list[str], to: Path, log: Path) -> None:
    pip = [sys.executable, "-m", "pip"]
    if subprocess.run([*pip, "--version"], capture_output=True, check=False).returncode:
        raise LabError(f"{sys.executable} has no pip: the lab fetches dependencies with it")
    target = ["--only-binary=:all:", "--implementation=cp", f"--python-version={python}"]
    target += [f"--platform={name}" for name in PLATFORMS]
    cache.execute([*pip, "download", "-q", "-d", str(to), *target, *requirements], log)


def _product(root: Path, deps: Path, repo: Path) -> Path:
    sources = [repo / name for name in SOURCES if (repo / name).exists()]
    script = GUEST / "build-product.sh"
    key = cache.digest(root.name, deps.name, script, *sources)
    make = _builder(
        root, script, sources, {deps / "opt" / n: f"/opt/{n}" for n in ("build", "xlmt")}
    )
    return cache.entry("product", key, "building xlmt for dom0", make)


def _modules(root: Path, kernel: Kernel, sources: list[Path]) -> Path:
    script = GUEST / "build-module.sh"
    key = cache.digest(root.name, kernel.home.name, script, *sources)
    trees = {} if kernel.home == root else kernel.to_build_modules
    make = _builder(root, script, sources, trees)
    return cache.entry("module", key, "building the kernel modules for dom0", make)


def _builder(
    root: Path, script: Path, sources: list[Path], binds: dict[Path, str]
) -> Callable[[Path], None]:
    """A maker: copies the sources to /src of the root, runs `script`, which fills /layer."""

    def make(tmp: Path) -> None:
        src = tmp / ".src"
        for source in sources:
            for path in cache.files_in(source):
                copy = src / path.relative_to(source.parent)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, copy)
        in_root(root, script, {src: "/src", tmp: "/layer", **binds}, _log(script.stem))
        shutil.rmtree(src)

    return make


def _log(name: str) -> Path:
    log = cache.folder() / f"{name}.log"
    log.unlink(missing_ok=True)
    return log
