# SPDX-License-Identifier: LGPL-2.1-or-later
"""Questions that may hang: all are asked, and nobody waits for one that does not answer."""

import os
import time

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
    assert told == {"slow": Answer(problem="no answer within 0.3 s"), "even": Answer(2)}


def test_one_that_dies_is_named() -> None:
    told = Asked({"dead": lambda: os.kill(os.getpid(), 9), "bug": lambda: 1 / 0}).answers(LONG_S)
    assert {answer.problem for answer in told.values()} == {"ended without an answer"}


def test_nothing_of_ours_is_said_twice(capfd: pytest.CaptureFixture[str]) -> None:
    print("once", end="")  # is buffered when the children are forked
    Asked({"loud": lambda: print("said by a child")}).answers(LONG_S)
    assert capfd.readouterr().out.count("once") <= 1


def test_no_process_of_a_question_is_left() -> None:
    asked = Asked({"slow": lambda: time.sleep(LONG_S)})
    asked.answers(SHORT_S)
    with pytest.raises(ChildProcessError):
        while os.waitpid(-1, 0):
            pass
