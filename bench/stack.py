# SPDX-License-Identifier: LGPL-2.1-or-later
"""xlmt beside xl on the real libxl and xenstored, without a hypervisor: the cost of our own code.

`python -m bench.stack`, as root.
"""

import compileall
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import xlmt
from bench import compare, report, timed
from tests.stack.stack import Daemon, Stack
from tests.stack.trace import creation

ROUNDS = 15


def main() -> None:
    # As installed: an editable install on a machine that writes no bytecode has none.
    compileall.compile_dir(str(Path(xlmt.__file__).parent), quiet=1)
    for daemon in ("c", "ocaml"):
        with tempfile.TemporaryDirectory() as folder, Stack(daemon, workdir=Path(folder)) as stack:
            create_and_destroy(daemon, stack)
            start_up(daemon, stack)


def create_and_destroy(daemon: Daemon, stack: Stack) -> None:
    config = stack.guest("bench")

    def cycle(create: list[str], *, destroy: bool) -> float:
        took = timed(partial(run, stack, *create, config))
        undo = timed(partial(run, stack, *[*create[:-2], "destroy"], "bench"))
        return undo if destroy else took

    tools = {"xl": ["xl", "create", "-q"], "xlmt": [str(program()), "create", "-q"]}
    for name, destroy in (("create", False), ("destroy", True)):
        sides = {tool: partial(cycle, argv, destroy=destroy) for tool, argv in tools.items()}
        compare(f"stack/{daemon}/{name}", sides, rounds=ROUNDS, against="xl")
    count_requests(daemon, stack)


def count_requests(daemon: Daemon, stack: Stack) -> None:
    """Count the requests of the creation's transaction, the hook's own part of the cost."""
    counts = {}
    for tool, argv in {"xl": ["xl"], "hooked xl": [str(program()), "xl"]}.items():
        run(stack, *argv, "create", "-q", stack.guest("bench"))
        domid = max(stack.domains())
        counts[tool] = len(creation(stack.trace(), domid))
        run(stack, *argv, "destroy", "bench")
    report(bench=f"stack/{daemon}/requests of a creation's transaction", **counts)


def start_up(daemon: Daemon, stack: Stack) -> None:
    argvs = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "python -c 'import typer'": [sys.executable, "-c", "import typer"],
        "xl list": ["xl", "list"],
        "xlmt list": [str(program()), "list"],
    }
    sides = {name: partial(timed, partial(run, stack, *argv)) for name, argv in argvs.items()}
    compare(f"stack/{daemon}/start-up", sides, rounds=ROUNDS, against="python -c 'import typer'")


def program() -> Path:
    return Path(sys.executable).parent / "xlmt"


def run(stack: Stack, *argv: str | Path) -> subprocess.CompletedProcess[str]:
    done = stack.run(*argv)
    if done.returncode:
        raise SystemExit(f"{argv}: {done.stderr}")
    return done


if __name__ == "__main__":
    main()
