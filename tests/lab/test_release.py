# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which release dom0 is made of, and where that comes from. No VM."""

import pytest

from tests.lab import debian
from tests.lab.debian import lines
from tests.lab.errors import LabError
from tests.lab.release import BOOKWORM, TRIXIE, VARIABLE, Release, chosen, named

MIRROR, SECURITY = "http://mirror.example/debian/", "http://mirror.example/debian-security/"
HOST = [
    [MIRROR, "bookworm", "main", "amd64"],
    [MIRROR, "bookworm", "main", "i386"],
    [MIRROR, "bookworm-updates", "main", "amd64"],
    [MIRROR, "bookworm-backports", "main", "amd64"],
    [SECURITY, "bookworm-security", "main", "amd64"],
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


@pytest.mark.parametrize("release", ["trixie", "bookworm"])
def test_any_release_comes_from_this_machines_own_mirrors(release: str) -> None:
    assert lines(release, HOST, "bookworm") == [
        f"deb {SECURITY} {release}-security main",
        f"deb {MIRROR} {release} main",
        f"deb {MIRROR} {release}-updates main",
    ]


def test_a_machine_with_both_releases_gives_each_line_once() -> None:
    other = [[uri, suite.replace("bookworm", "trixie"), *rest] for uri, suite, *rest in HOST]
    assert lines("trixie", [*HOST, *other], "bookworm") == lines("trixie", HOST, "bookworm")


def test_a_machine_that_does_not_say_leaves_it_to_mmdebstrap() -> None:
    assert lines("trixie", [], "") == []


def test_backports_come_from_where_the_release_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian, "_rows", lambda: HOST)
    monkeypatch.setattr(debian, "_own", lambda: "bookworm")
    assert debian.backports("trixie") == [f"deb {MIRROR} trixie-backports main"]
