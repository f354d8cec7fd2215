# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a creation that failed leaves to be looked for: nothing, if nothing of it is there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from xlmt.domains import creations, lifecycle
from xlmt.domains.creations import Begun, Claim
from xlmt.errors import LibxlError
from xlmt.model import Domain

BEGUN = Begun("web1", "u", 1, before=(3,))


class Libxl:
    def __init__(self, *domains: Domain) -> None:
        self._domains = domains

    def domains(self) -> dict[int, Domain]:
        return {domain.domid: domain for domain in self._domains}


@pytest.fixture
def claim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Claim]:
    monkeypatch.setattr(creations, "_FOLDER", tmp_path)
    with creations.claim("web1") as ours:
        ours.write_down(BEGUN)
        yield ours


def fails(claim: Claim, *domains: Domain) -> bool:
    """Have a creation fail; return whether what was written down is still there."""
    ctx: Any = Libxl(*domains)
    with (
        pytest.raises(LibxlError),
        lifecycle.forgotten_when_gone(ctx, claim),
    ):
        raise LibxlError("creating the domain", -3, "ERROR_FAIL")
    (file,) = creations._FOLDER.iterdir()
    return file.stat().st_size > 0


def test_a_creation_that_left_nothing_is_forgotten(claim: Claim) -> None:
    assert not fails(claim, Domain(3, "u"), Domain(8, "other"))


def test_a_domain_that_is_on_its_way_out_is_not_waited_for(claim: Claim) -> None:
    claim.note(9)
    assert not fails(claim, Domain(9, "u", dying=True))


def test_what_is_left_half_made_is_still_looked_for(claim: Claim) -> None:
    claim.note(9)
    claim.note(10)  # its stub domain
    assert fails(claim, Domain(10, "another", paused=True))


def test_a_domain_of_which_libxl_has_told_nothing_is_looked_for_by_its_uuid(claim: Claim) -> None:
    """The failure came before libxl had begun with xenstore, and its own clean-up failed too."""
    assert fails(claim, Domain(9, "u", paused=True))
