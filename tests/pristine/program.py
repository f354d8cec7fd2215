# SPDX-License-Identifier: LGPL-2.1-or-later
"""A program that makes fresh roots, run by a person."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from tests.lab.errors import LabError


def end_with(main: Callable[[Sequence[str]], int], trouble: str) -> NoReturn:
    """Exit with main's status; where it could not do its work, with a line that begins so."""
    try:
        sys.exit(main(sys.argv[1:]))
    except (LabError, subprocess.SubprocessError) as error:
        sys.exit(f"{trouble}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
