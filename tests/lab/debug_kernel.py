# SPDX-License-Identifier: LGPL-2.1-or-later
"""A kernel for dom0 with many checkers in it: lockdep, kmemleak, fault injection, ...

It is a PV dom0 for this lab and nothing else, so that its build takes minutes. That says why KASAN
is not among them. In its place all memory has red zones, and is poisoned when it is freed: who uses
it afterwards finds 0x6b in it, who writes to it is found out.
"""

from tests.lab.kernels import Choice
from tests.lab.recipe import FOLDER, Recipe, built
from tests.lab.release import BOOKWORM
from tests.lab.source import OF_BOOKWORM

RECIPE = Recipe("debug", BOOKWORM, OF_BOOKWORM, (FOLDER / "debug.patch",), FOLDER / "debug.config")
DEBUG = Choice(BOOKWORM, lambda _root: built(RECIPE), "slub_debug=FZPU")
