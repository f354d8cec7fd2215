# SPDX-License-Identifier: LGPL-2.1-or-later
"""Questions that may hang: all are asked, and nobody waits for one that does not answer."""

import os
import pickle
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from xlmt.doctor.bounded import Answer, Asked
from xlmt.errors import XlmtError

LONG_S = 60.0
SHORT_S = 0.3


def fail(error: Exception) -> None:
    raise error


def test_each_question_has_its_answer() -> None:
    asked = Asked({"one": lambda: 1, "much": lambda: "x" * (1 << 20), "none": lambda: None})
    told = asked.answers(LONG_S)
    assert told == {"one": Answer(1), "much": Answer("x" * (1 << 20)), "none": Answer(None)}


@pytest.mark.parametrize("error", [XlmtError("is gone"), OSError("is gone"), ValueError("is gone")])
def test_a_question_that_fails_gives_its_reason(error: Exception) -> None:
    told = Asked({"odd": lambda: fail(error), "even": lambda: 2}).answers(LONG_S)
    assert told == {"odd": Answer(problem="is gone"), "even": Answer(2)}


def test_one_that_does_not_answer_is_left_behind() -> None:
    told = Asked({"slow": lambda: time.sleep(LONG_S), "even": lambda: 2}).answers(SHORT_S)
    assert told == {"slow": Answer(problem="no answer within 0.3 s", late=True), "even": Answer(2)}


def test_one_that_dies_is_named() -> None:
    told = Asked({"dead": lambda: os.kill(os.getpid(), 9), "bug": lambda: 1 / 0}).answers(LONG_S)
    assert {answer.problem for answer in told.values()} == {"ended without an answer"}


def test_nothing_of_ours_is_said_twice(capfd: pytest.CaptureFixture[str]) -> None:
    print("once", end="")  # is buffered when the children are forked
    Asked({"loud": lambda: print("said by a child")}).answers(LONG_S)
    assert capfd.readouterr().out.count("once") <= 1


def test_one_that_is_killed_while_it_writes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickle, "dumps", lambda answer: whole(answer)[:-5])
    told = Asked({"cut": lambda: "x" * 100}).answers(LONG_S)
    assert told["cut"].problem == "ended without an answer"


whole = pickle.dumps


def test_nothing_that_a_question_has_started_is_left(tmp_path: Path) -> None:
    def starts() -> None:
        child = subprocess.Popen(["sleep", "60"])
        (tmp_path / "pids").write_text(f"{os.getpid()} {child.pid}")
        time.sleep(LONG_S)

    asked = Asked({"slow": starts})
    wait_until((tmp_path / "pids").exists)
    asked.answers(SHORT_S)
    child, grandchild = map(int, (tmp_path / "pids").read_text().split())
    wait_until(lambda: not runs(child) and not runs(grandchild))


def runs(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z" or pid in own_children()


def own_children() -> set[int]:
    """A zombie of ours is one that nobody has waited for."""
    listed = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    return {int(pid) for pid in listed.split()}


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)
