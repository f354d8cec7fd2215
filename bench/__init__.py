# SPDX-License-Identifier: LGPL-2.1-or-later
"""Measurements: `python -m bench.stack`, `python -m bench.lab`.

Each prints a JSON line per comparison, with both sides measured in turn in the same run, so that
a noisy machine is noisy for both.
"""

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence


def timed(action: Callable[[], object]) -> float:
    """Return the seconds that one call takes."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def compare(
    what: str, sides: Mapping[str, Callable[[], float]], *, rounds: int, against: str
) -> None:
    """Measure the sides in turns and print the medians, and their ratios to `against`."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, measure in sides.items():
            seconds[name].append(measure())
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    report(
        bench=what,
        rounds=rounds,
        median_s={name: round(value, 4) for name, value in medians.items()},
        spread_s={name: spread(values) for name, values in seconds.items()},
        ratio={
            f"{name}/{against}": round(value / medians[against], 2)
            for name, value in medians.items()
            if name != against
        },
    )


def spread(values: Sequence[float]) -> list[float]:
    """Return the smallest and the largest."""
    return [round(min(values), 4), round(max(values), 4)]


def report(**fields: object) -> None:
    """Print one JSON line."""
    print(json.dumps(fields), flush=True)
