# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whatever a server sends, only errors of xlmt leave the xenstore client."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.xenstore.xsserver import (
    ERROR,
    LONG,
    SOON,
    Peer,
    Server,
)
from xlmt.errors import XlmtError
from xlmt.xenstore import Store

pytestmark = pytest.mark.timeout(60)


CALLS: list[Callable[[Store], object]] = [
    lambda store: store.read("/a"),
    lambda store: store.list("/a"),
    lambda store: store.permissions("/a"),
    lambda store: store.write("/a", "x"),
    lambda store: store.remove("/a"),
    lambda store: store.watch("/a", "t"),
    lambda store: store.ping(),
    lambda store: store.next_event(SOON),
    lambda store: store.transaction().__enter__().commit(),
]
FUZZ = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(data=st.binary(max_size=200), call=st.sampled_from(CALLS))
def test_whatever_bytes_come_only_our_errors_leave(
    tmp_path: Path, data: bytes, call: Callable[[Store], object]
) -> None:
    (tmp_path / "fuzz").unlink(missing_ok=True)
    server = Server(tmp_path / "fuzz", lambda peer: peer.send(data))
    with Store(server.path, timeout=LONG) as store, suppress(XlmtError):
        call(store)
    server.stop()


@FUZZ
@given(
    replies=st.lists(st.tuples(st.booleans(), st.binary(max_size=50)), min_size=1, max_size=4),
    call=st.sampled_from(CALLS),
)
def test_whatever_the_answer_says_only_our_errors_leave(
    tmp_path: Path, replies: list[tuple[bool, bytes]], call: Callable[[Store], object]
) -> None:
    def script(peer: Peer) -> None:
        for wrong, payload in replies:
            peer.answer(payload, ERROR if wrong else None)

    (tmp_path / "fuzz").unlink(missing_ok=True)
    server = Server(tmp_path / "fuzz", script)
    with Store(server.path, timeout=LONG) as store, suppress(XlmtError):
        call(store)
    server.stop()
