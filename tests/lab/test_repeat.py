# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the lab itself has decided is run again, and nothing else is. No VM."""

import pytest

pytest_plugins = ["pytester"]
TESTS = """
    import pytest
    from tests.lab.errors import CommandFailed, TripleFault

    runs = []

    @pytest.fixture
    def counted():
        runs.append(1)

    def test_it(counted):
        if len(runs) <= {failures}:
            raise {error}
"""
LATE = "CommandFailed('libxl: error: unable to add device with path /local/domain/0/backend/vif')"
FELL = "TripleFault('(XEN) d6v0 Triple fault - invoking HVM shutdown action 1')"


@pytest.mark.parametrize(
    ("error", "failures", "outcome", "repeated"),
    [
        (LATE, 1, {"passed": 1}, True),
        (LATE, 2, {"failed": 1}, True),
        ("CommandFailed('libxl: error: no such file')", 1, {"failed": 1}, False),
        (FELL, 3, {"passed": 1}, True),
        (FELL, 4, {"failed": 1}, True),
        (LATE.replace("CommandFailed", "AssertionError"), 1, {"failed": 1}, False),
    ],
    ids=["late-once", "late-twice", "another-failure", "fell", "falls", "not-a-command"],
)
def test_only_what_the_lab_has_decided_is_run_again_and_not_for_ever(
    error: str,
    failures: int,
    outcome: dict[str, int],
    repeated: bool,
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(TESTS.format(error=error, failures=failures))
    done = pytester.runpytest("-p", "tests.lab.repeat")
    done.assert_outcomes(**outcome)
    assert ("run again" in done.stdout.str()) == repeated
