# SPDX-License-Identifier: LGPL-2.1-or-later
"""What options of several commands have in common."""

import math

import typer


def finite(seconds: float) -> float:
    """Refuse what is no time to wait for, though a float, and passes every `min`."""
    if not math.isfinite(seconds):
        raise typer.BadParameter(f"{seconds} is no number of seconds.")
    return seconds
