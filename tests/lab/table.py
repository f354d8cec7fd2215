# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of stalls have measured, as a table at the end of the run.

A test has a Row, as a property of its report, and fills it in. One that has failed has none.
"""

from dataclasses import astuple, dataclass, fields
from typing import Any, ClassVar


@dataclass
class Row:
    """A stall: how long doctor takes to answer, and the slowest of the other commands meanwhile.

    And how long it takes from the release, by whatever is typed, until xenwatch goes on.
    """

    NAME: ClassVar = "stall"

    stall: str = ""
    linux: str = ""
    kind: str = ""
    guest: str = ""
    holder: str = ""
    released_by: str = ""
    doctor_s: float = 0.0
    slowest_command_s: float | None = None
    goes_on_s: float = 0.0

    def released(self, by: str, milliseconds: str) -> None:
        self.released_by, self.goes_on_s = by, int(milliseconds) / 1000


def pytest_terminal_summary(terminalreporter: Any) -> None:
    told = [
        value
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
        if name == Row.NAME and report.when == "call"
    ]
    if told:
        terminalreporter.section("stalls")
        for line in table(told):
            terminalreporter.write_line(line)


def table(rows: list[Row]) -> list[str]:
    """In Markdown."""
    head = [field.name.replace("_", " ") for field in fields(Row)]
    shown = [[_cell(value) for value in astuple(row)] for row in rows]
    return [_line(head), _line(["---"] * len(head)), *map(_line, shown)]


def _cell(value: object) -> str:
    return f"{value:.1f}" if isinstance(value, float) else str(value or "")


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
