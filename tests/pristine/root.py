# SPDX-License-Identifier: LGPL-2.1-or-later
"""A minimal Debian, made on the spot, and commands run in it.

The base (Debian's smallest variant, and the make that the README tells its reader to install) is
kept in the cache folder; each run gets a copy, and whatever it installs goes with that. Of this
machine a run sees the checkout, apt's sources, pip's settings, certificates and how to resolve
names, and no file else.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.lab import cache
from tests.lab.debian import sources
from tests.lab.root import debootstrap, require

REPO = Path(__file__).resolve().parents[2]
CHECKOUT = "/srv/xlmt"  # where a user without privileges can read it
PACKAGES = ("make",)
ENTER = Path(__file__).with_name("enter.sh")
#: How this machine reaches what it installs from; a file that is not there is left out.
SETTINGS = ("/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf", "/etc/xdg/pip")
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
#: There, as the root's own package of certificates writes over the other when it is installed.
CERTIFICATES_INSIDE = "/etc/ssl/of-the-machine.crt"
PASSED = ("PIP_", "XLMT_")
#: They name places on this machine.
KEPT = ("PIP_FIND_LINKS", "PIP_CONFIG_FILE", "XLMT_LAB_CACHE")
PASSED_AS_THEY_ARE = ("CI", "TERM", "http_proxy", "https_proxy", "no_proxy")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def base(release: str, packages: Sequence[str] = PACKAGES) -> Path:
    """The folder that every root of this release starts as: ten seconds at the first call.

    Raises LabUnavailable when a tool or the privilege to make it is missing.
    """

    def make(target: Path) -> None:
        debootstrap(f"pristine-{release}", release, target / "root", packages, "--variant=minbase")

    key = cache.digest(release, *sources(release), *packages)
    label = f"making a minimal root of {release} (once, ten seconds)"
    kind = "pristine" if packages == PACKAGES else "builder"
    return cache.entry(kind, key, label, make, keep=4) / "root"


@contextlib.contextmanager
def fresh(release: str, packages: Sequence[str] = PACKAGES) -> Iterator[Path]:
    """A copy of the base with the checkout in it, at CHECKOUT; gone afterwards."""
    require("git")
    start = base(release, packages)
    with tempfile.TemporaryDirectory(dir=cache.folder(), prefix=f"{release}-") as folder:
        root = Path(folder) / "root"
        subprocess.run(["cp", "-a", "--reflink=auto", start, root], check=True, timeout=300)
        for name in SETTINGS:
            _hand_in(name, name, root)
        # Thousands of files, each synchronised; what is made here need not outlast a power failure.
        (root / "etc/dpkg/dpkg.cfg.d/unsafe-io").write_text("force-unsafe-io\n")
        _hand_in(os.environ.get("SSL_CERT_FILE") or CERTIFICATES, CERTIFICATES_INSIDE, root)
        copy_checkout(REPO, root / CHECKOUT.lstrip("/"))
        yield root


def _hand_in(name: str, inside: str, root: Path) -> None:
    file, copy = Path(name), root / inside.lstrip("/")
    copy.parent.mkdir(parents=True, exist_ok=True)
    if file.is_dir():
        shutil.copytree(file, copy)
    elif file.exists():
        copy.unlink(missing_ok=True)
        shutil.copy(file, copy)


def copy_checkout(source: Path, target: Path) -> None:
    """What git tracks or would add: no build, no virtual environment, no cache comes along."""
    git = ["git", "-c", f"safe.directory={source}", "-C", str(source), "ls-files", "-z"]
    listed = subprocess.run(
        [*git, "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (source / name).is_file():  # not one that is deleted and not committed yet
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / name, target / name)
    # A test asks git for the project's files.
    for words in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", "-C", str(target), *words], check=True, timeout=60)


def environment(ours: Mapping[str, str]) -> dict[str, str]:
    """What a command sees in there: of this machine's variables, those that SETTINGS are like."""
    chosen = {n for n in ours if n.startswith(PASSED)} - {*KEPT} | {*PASSED_AS_THEY_ARE}
    passed = {name: ours[name] for name in chosen if name in ours}
    trusted = dict.fromkeys(("PIP_CERT", "SSL_CERT_FILE"), CERTIFICATES_INSIDE)
    return passed | trusted | {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8"}


def command(root: Path, argv: Sequence[str]) -> list[str]:
    """The command line that runs `argv` in the checkout inside `root`, and ends with us."""
    tree = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--"]
    enter = ["sh", str(ENTER), str(root), CHECKOUT, *argv]
    return ["setpriv", "--pdeathsig", "KILL", "--", *tree, *enter]


def run(root: Path, argv: Sequence[str]) -> int:
    """The exit status of `argv` in `root`.

    It has no deadline of its own: what runs in there has (pytest's, apt's and pip's).
    """
    done = subprocess.run(command(root, argv), env=environment(os.environ), check=False)
    return done.returncode
