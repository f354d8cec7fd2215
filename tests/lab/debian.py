# SPDX-License-Identifier: LGPL-2.1-or-later
"""Debian's archive, by the mirrors that this machine has its own packages from."""

import platform
import subprocess

from tests.lab.release import RELEASES

STABLE = [release.codename for release in RELEASES]
SUITES = ("", "-updates", "-security")  # what a stable release is made of


def sources(release: str) -> list[str]:
    """Lines of sources.list for `release`, also when this machine has another one.

    Empty where this machine is no Debian: mmdebstrap then uses its default mirror.
    """
    return lines(release, _rows(), _own())


def backports(release: str) -> list[str]:
    """The same for its backports, which this machine need not use itself."""
    own, theirs = f" {release} ", f" {release}-backports "
    return [line.replace(own, theirs) for line in sources(release) if own in line]


def lines(release: str, rows: list[list[str]], own: str) -> list[str]:
    """The same of `rows`: URI, codename, component and architecture of what apt has configured."""
    suffixes = SUITES if release in STABLE else ("",)
    return sorted(
        f"deb {uri} {release}{suffix} {component}"
        for uri, codename, component, architecture in rows
        for suffix in suffixes
        if codename == own + suffix and architecture == "amd64"
    )


def _rows() -> list[list[str]]:
    fields = "$(REPO_URI)|$(CODENAME)|$(COMPONENT)|$(ARCHITECTURE)"
    argv = ["apt-get", "indextargets", "--format", fields, "Created-By: Packages", "Origin: Debian"]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        return []
    return [line.split("|") for line in sorted(set(done.stdout.splitlines()))]


def _own() -> str:
    return platform.freedesktop_os_release().get("VERSION_CODENAME", "")
