# SPDX-License-Identifier: LGPL-2.1-or-later
"""docs/session.svg: the session in the README, as a terminal shows it.

python -m tests.repo.picture writes it anew; test_docs.py fails where it is not the README's.
"""

import re
import textwrap
from xml.sax.saxutils import escape

from tests.repo.tree import ROOT

PICTURE = ROOT / "docs/session.svg"
#: The line of the README that comes before what is shown.
BEFORE = (
    "With the module from the start, the stuck guest is alone with that, and nobody else notices:"
)
PROMPT = "dom0# "
WIDTH, LINE, SIZE, MARGIN = 8.0, 19, 13, 18  # in pixels: a character, a line, the font, the border
COLOURS = {"background": "#16181d", "output": "#b6bcc8", "prompt": "#6f9c76", "command": "#ffffff"}


def session(readme: str) -> list[str]:
    """The lines of the block that follows BEFORE."""
    block = re.search(rf"^{re.escape(BEFORE)}\n\n((?:(?:    .*)?\n)+)", readme, re.MULTILINE)
    assert block, "the README has no session"
    return textwrap.dedent(block[1]).strip().splitlines()


def svg(lines: list[str]) -> str:
    width = round(max(map(len, lines)) * WIDTH) + 2 * MARGIN
    height = len(lines) * LINE + 2 * MARGIN
    rows = [_row(line, MARGIN + LINE * (number + 0.75)) for number, line in enumerate(lines)]
    head = (
        "<!-- SPDX-License-Identifier: LGPL-2.1-or-later -->\n"
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}">\n'
        f'<rect width="{width}" height="{height}" rx="8" fill="{COLOURS["background"]}"/>\n'
        f'<g font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="{SIZE}">\n'
    )
    return f"{head}{''.join(rows)}</g>\n</svg>\n"


def _row(line: str, y: float) -> str:
    if line.startswith(PROMPT):
        command = _part(line[len(PROMPT) :], "command")
        parts = _part(PROMPT, "prompt") + command
    else:
        parts = _part(line, "output")
    # Whatever the font: each line is as wide as its characters in a terminal.
    wide = f' textLength="{len(line) * WIDTH:g}" lengthAdjust="spacingAndGlyphs"' if line else ""
    return f'<text x="{MARGIN}" y="{y:g}" xml:space="preserve"{wide}>{parts}</text>\n'


def _part(text: str, kind: str) -> str:
    return f'<tspan fill="{COLOURS[kind]}">{escape(text)}</tspan>'


if __name__ == "__main__":
    PICTURE.write_text(svg(session((ROOT / "README.md").read_text())))
