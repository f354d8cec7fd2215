# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which release dom0 is made of, and where it comes from. No VM."""

import pytest

from tests.lab import root
from tests.lab.errors import LabError
from tests.lab.release import BOOKWORM, TRIXIE, VARIABLE, Release, chosen, named

MIRROR, SECURITY = "http://mirror.example/debian/", "http://mirror.example/debian-security/"
HOST = [
    f"{MIRROR}|main|bookworm|amd64",
    f"{MIRROR}|main|bookworm|i386",
    f"{MIRROR}|contrib|bookworm|amd64",
    f"{MIRROR}|main|bookworm-updates|amd64",
    f"{SECURITY}|main|bookworm-security|amd64",
]


@pytest.mark.parametrize(
    ("text", "release"),
    [("13", TRIXIE), ("trixie", TRIXIE), ("12", BOOKWORM), ("bookworm", BOOKWORM), ("", TRIXIE)],
)
def test_a_release_is_named_by_number_or_codename(
    text: str, release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, text)
    assert chosen() == release


def test_another_release_is_refused_in_one_line() -> None:
    with pytest.raises(LabError) as refused:
        named("jessie")
    assert str(refused.value) == "no release 'jessie': trixie (13) or bookworm (12)"


@pytest.mark.parametrize("release", [TRIXIE, BOOKWORM])
def test_any_release_comes_from_this_machines_own_mirrors(
    release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(root, "KEYRING", root.GUEST)  # something that is there
    signed = f"[signed-by={root.GUEST}]"
    assert root.lines_for(release, HOST) == [
        f"deb {signed} {MIRROR} {release.codename} main",
        f"deb {signed} {MIRROR} {release.codename}-updates main",
        f"deb {signed} {SECURITY} {release.codename}-security main",
    ]


def test_a_machine_with_both_releases_gives_each_line_once() -> None:
    both = [*HOST, *(row.replace("bookworm", "trixie") for row in HOST)]
    assert root.lines_for(TRIXIE, both) == root.lines_for(TRIXIE, HOST)


def test_a_machine_that_does_not_say_leaves_it_to_mmdebstrap() -> None:
    assert root.lines_for(TRIXIE, []) == []
