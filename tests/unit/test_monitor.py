# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the process that looks after a domain does when it is interrupted."""

import json
from typing import Any

import pytest

from xlmt import monitor
from xlmt.death import Step
from xlmt.errors import NoXenError, XlmtError
from xlmt.model import Domain


class _Context:
    """As much of libxl as a soft reset takes; xenstored is lost in the middle of it."""

    def __init__(self) -> None:
        self.destroyed: list[int] = []

    def __enter__(self) -> "_Context":
        return self

    def __exit__(self, *_: object) -> None: ...

    def domain(self, domid: int) -> Domain:
        return Domain(domid, "u")

    def configuration(self, domid: int) -> str:
        return json.dumps({"c_info": {"name": "g1"}})

    def soft_reset(self, domid: int, config_json: str) -> None:
        raise NoXenError("xenstored is gone")

    def destroy(self, domid: int) -> None:
        self.destroyed.append(domid)


def test_a_soft_reset_that_lost_xenstored_is_one_line_and_not_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ctx: Any = _Context()
    monkeypatch.setattr(monitor, "Context", lambda: ctx)
    monkeypatch.setattr(monitor, "Store", _Context)
    guard = monitor.Guard(ctx, 7)
    guard.pending = [Step.SOFT_RESET]
    with pytest.raises(NoXenError):
        guard.carry_out()
    assert ctx.destroyed == [7]
    with pytest.raises(XlmtError, match="g1 was destroyed when its soft reset was interrupted"):
        guard.carry_out()
    assert ctx.destroyed == [7]
