# SPDX-License-Identifier: LGPL-2.1-or-later
"""How long each command takes to start, beside `import typer`, which all of them have to do.

`python -m bench.startup`, as root. Each is run to its end, on a host with nothing to do.
"""

import compileall
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import xlmt
from bench import compare, timed
from bench.stack import program
from tests.stack.stack import Stack

ROUNDS = 15
TYPER = "import typer"
COMMANDS = (
    *("--version", "--help", "list", "reconcile", "repair --all"),
    *("create -n /dev/null", "destroy nobody", "kernel status", "hook libvirt x release end -"),
    *("exec -- true", "xl info"),
)


def main() -> None:
    # As installed: an editable install on a machine that writes no bytecode has none.
    compileall.compile_dir(str(Path(xlmt.__file__).parent), quiet=1)
    with tempfile.TemporaryDirectory() as folder, Stack("c", workdir=Path(folder)) as stack:
        argvs: dict[str, list[str]] = {TYPER: [sys.executable, "-c", TYPER]}
        argvs |= {command: [str(program()), *command.split()] for command in COMMANDS}
        # The status is the command's own affair here: some of these have nothing to work on.
        sides = {name: partial(timed, partial(_run, stack, argv)) for name, argv in argvs.items()}
        compare("start-up", sides, rounds=ROUNDS, against=TYPER)


def _run(stack: Stack, argv: Sequence[str]) -> None:
    stack.run(*argv)


if __name__ == "__main__":
    main()
