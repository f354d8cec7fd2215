# SPDX-License-Identifier: LGPL-2.1-or-later
"""A kernel for dom0 with the series of kernel/upstream, which needs no module and no nodes."""

from pathlib import Path

from tests.lab.kernels import Choice
from tests.lab.recipe import FOLDER, Recipe, built
from tests.lab.release import TRIXIE
from tests.lab.source import NEWEST_OF_TRIXIE

SERIES = Path(__file__).parents[2] / "kernel/upstream/xenwatch-mt"
PATCHES = tuple(sorted(SERIES.glob("000[1-9]-*.patch")))
RECIPE = Recipe("upstream", TRIXIE, NEWEST_OF_TRIXIE, PATCHES, FOLDER / "upstream.config")
UPSTREAM = Choice(TRIXIE, lambda _root: built(RECIPE), module=False)
