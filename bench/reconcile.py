# SPDX-License-Identifier: LGPL-2.1-or-later
"""`xlmt reconcile` and `xlmt list` with up to 10 000 domids, beside the same as a shell loop.

`python -m bench.reconcile`, as root; `--quick` leaves the large sizes out. Each size and case has
a stack of its own, and every run, the shell's too, is checked to have done its work.
"""

import argparse
import compileall
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import xlmt
from bench import compare, report, spread
from bench.stack import program
from tests.stack.stack import MTWATCH, Daemon, Stack
from tests.stack.trace import MODIFYING

DAEMONS: tuple[Daemon, ...] = ("c", "ocaml")
QUICK = (1, 100)
SIZES = (*QUICK, 1000, 10_000)
ROUNDS = {1: 5, 100: 5, 1000: 3, 10_000: 2}
SHELL_ROUNDS = {1: 5, 100: 5, 1000: 1}  # 10 000 domids take it up to half a minute
START_UP_ROUNDS = 15
PATIENCE = 600.0  # seconds, for any one command
PROGRAM = program()

# Between us and the command: what a process had in memory before it became another program
# counts as that program's peak, and we are larger than what we measure.
STOPWATCH = """\
import json, resource, subprocess, sys, time
started = time.perf_counter()
status = subprocess.call(sys.argv[2:])
wall = time.perf_counter() - started
with open(sys.argv[1], "w") as figures:
    json.dump([wall, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss], figures)
sys.exit(status)
"""

SHELL_LOOP = f"""\
set -eu
top={MTWATCH}
nodes=$(xenstore-list "$top")
domains=$(xl list)
domids=$(echo "$domains" | awk 'NR > 1 && $2 != 0 {{ print $2 }}')
for domid in $domids; do
	if ! xenstore-exists "$top/$domid"; then
		xenstore-write "$top/$domid" ''
		xenstore-chmod "$top/$domid" n0
	fi
done
living=" $(echo "$domids" | tr '\\n' ' ') "
for node in $nodes; do
	case $living in
	*" $node "*) ;;
	*) xenstore-rm "$top/$node" ;;
	esac
done
"""


class WentWrongError(Exception):
    """A run failed, or did not do its work."""


@dataclass(frozen=True)
class Case:
    """What there is of every domid before a run, and whether it has a node afterwards."""

    name: str
    argv: tuple[str, ...]
    domains: bool
    before: bool
    after: bool
    shell: bool = True

    @property
    def idle(self) -> bool:
        return self.before is self.after


CASES = (
    Case("idle", ("reconcile",), domains=True, before=True, after=True),
    Case("missing", ("reconcile",), domains=True, before=False, after=True),
    Case("orphaned", ("reconcile", "--force"), domains=False, before=True, after=False),
    Case("list", ("list",), domains=True, before=True, after=True, shell=False),
)


@dataclass(frozen=True)
class Usage:
    """What one run of a command took."""

    wall: float
    mib: float


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    daemon: Daemon
    size: int
    case: str
    wall: float
    requests: int
    mib: float
    shell: float | None
    note: str


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.reconcile")
    parser.add_argument("--quick", action="store_true", help="sizes 1 and 100 only")
    sizes = QUICK if parser.parse_args().quick else SIZES
    # As installed: an editable install on a machine that writes no bytecode has none.
    compileall.compile_dir(str(Path(xlmt.__file__).parent), quiet=1)
    try:
        rows = [measure(d, size, case) for d in DAEMONS for size in sizes for case in CASES]
    except WentWrongError as e:
        raise SystemExit(str(e)) from e
    print(f"\n{table(rows)}")


def measure(daemon: Daemon, size: int, case: Case) -> Row:
    """Measure one case on a stack of its own and print it."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Stack(daemon, workdir=Path(folder), traced=False) as stack,
    ):
        scene = Scene(stack, case, range(1, size + 1))
        if size == 1 and case.name == "idle":
            start_up(daemon, scene)
        ours, shell, note = in_turns(scene)
        requests = scene.count_requests()
    walls = {"xlmt": [usage.wall for usage in ours], "shell": shell}
    row = Row(
        daemon=daemon,
        size=size,
        case=case.name,
        wall=statistics.median(walls["xlmt"]),
        requests=requests,
        mib=max(usage.mib for usage in ours),
        shell=statistics.median(shell) if shell else None,
        note=note,
    )
    tell(row, walls)
    return row


def in_turns(scene: "Scene") -> tuple[list[Usage], list[float], str]:
    """Run xlmt and the shell loop in turns; a loop that fails once is not run again."""
    size = len(scene.domids)
    ours: list[Usage] = []
    shell: list[float] = []
    rounds = SHELL_ROUNDS.get(size, 0) if scene.case.shell else 0
    note = ("ran" if rounds else "not run") if scene.case.shell else "no counterpart"
    for turn in range(ROUNDS[size]):
        ours.append(scene.run_xlmt())
        if turn < rounds and note == "ran":
            try:
                shell.append(scene.run_shell())
            except WentWrongError as e:
                note, shell = f"fails: {e}", []
    return ours, shell, note


def start_up(daemon: Daemon, scene: "Scene") -> None:
    """Measure what the budget of one idle domain is counted in."""
    reference = "python -c 'import typer'"
    argvs: dict[str, tuple[str | Path, ...]] = {
        reference: (sys.executable, "-c", "import typer"),
        "xlmt reconcile": (PROGRAM, "reconcile"),
        "xlmt list": (PROGRAM, "list"),
    }
    scene.prepare()
    sides = {name: partial(scene.seconds, *argv) for name, argv in argvs.items()}
    what = f"reconcile/{daemon}/start-up"
    compare(what, sides, rounds=START_UP_ROUNDS, against=reference)


class Scene:
    """A stack whose domids are brought into a case's state before each run."""

    def __init__(self, stack: Stack, case: Case, domids: Sequence[int]) -> None:
        self.case = case
        self.domids = domids
        self._stack = stack
        self._nodes = {str(domid): "n0" for domid in domids}
        if case.domains:
            stack.add_domains(domids)

    def run_xlmt(self) -> Usage:
        """Raises WentWrongError, as all that runs something here."""
        self.prepare()
        usage, out = self._timed(PROGRAM, *self.case.argv)
        self._check_output(out)
        self._check_nodes("xlmt")
        return usage

    def run_shell(self) -> float:
        self.prepare()
        usage, _ = self._timed("sh", "-c", SHELL_LOOP)
        self._check_nodes("the loop")
        return usage.wall

    def count_requests(self) -> int:
        """Run xlmt once more, through a proxy; those of its libxl are counted, too."""
        self.prepare()
        with self._stack.proxy() as proxy:
            done = self._stack.xlmt(*self.case.argv, env=proxy.env, timeout=PATIENCE)
            changed = MODIFYING & {packet.op for packet in proxy.seen}
            count = proxy.count
        if done.returncode or done.stderr or (self.case.idle and changed):
            raise WentWrongError(f"{self}, counted: {done.returncode} {done.stderr} {changed}")
        self._check_output(done.stdout)
        self._check_nodes("xlmt, counted")
        return count

    def seconds(self, *argv: str | Path) -> float:
        return self._timed(*argv)[0].wall

    def prepare(self) -> None:
        """Make the nodes anew if they are not as the case wants them."""
        wanted = self._nodes if self.case.before else {}
        with self._stack.client(timeout=60) as client:
            if client.exists(MTWATCH):
                if set(client.ls(MTWATCH)) == set(wanted):
                    return
                client.rm(MTWATCH)
            for path in (MTWATCH, *(f"{MTWATCH}/{name}" for name in wanted)):
                client.mkdir(path)
                client.set_perms(path, "n0")

    def _timed(self, *argv: str | Path) -> tuple[Usage, str]:
        figures = self._stack.workdir / "figures"
        stopwatch = (sys.executable, "-I", "-S", "-c", STOPWATCH, figures)
        try:
            done = self._stack.run(*stopwatch, *argv, timeout=PATIENCE)
        except subprocess.TimeoutExpired as e:
            raise WentWrongError(f"{self}: not done within {PATIENCE:.0f} s") from e
        if done.returncode or done.stderr:
            last = done.stderr.strip().rpartition("\n")[2]
            raise WentWrongError(last or f"{self}: exit status {done.returncode}")
        wall, kib = json.loads(figures.read_text())
        return Usage(wall, kib / 1024), done.stdout

    def _check_output(self, out: str) -> None:
        """A line for each change and none without, or a list's head and rows."""
        changes = 0 if self.case.idle else len(self.domids)
        lines = len(self.domids) + 1 if self.case.name == "list" else changes
        if out.count("\n") != lines:
            raise WentWrongError(f"{self}: not {lines} lines but {out[:1000]}")

    def _check_nodes(self, who: str) -> None:
        wanted = self._nodes if self.case.after else {}
        nodes = self._stack.nodes()
        if nodes != wanted:
            raise WentWrongError(f"{self}: {who} left {len(nodes)} nodes, or not the right ones")

    def __str__(self) -> str:
        return f"{self._stack.daemon}/{self.case.name}/{len(self.domids)}"


def tell(row: Row, walls: Mapping[str, Sequence[float]]) -> None:
    """Print the JSON line."""
    medians = {"xlmt": round(row.wall, 4), "shell": row.shell and round(row.shell, 4)}
    report(
        bench=f"reconcile/{row.daemon}/{row.case}/{row.size}",
        rounds={name: len(values) for name, values in walls.items()},
        median_s=medians,
        spread_s={name: spread(values) if values else None for name, values in walls.items()},
        ratio={"shell/xlmt": row.shell and round(row.shell / row.wall, 2)},
        requests=row.requests,
        peak_mib=round(row.mib, 1),
        shell=row.note,
    )


def table(rows: Sequence[Row]) -> str:
    """Return what was measured, in Markdown."""
    head = "| daemon | domids | case | xlmt | requests | peak memory | shell loop |"
    return "\n".join([head, "|---|--:|---|--:|--:|--:|--:|", *map(line, rows)])


def line(row: Row) -> str:
    shell = f"{row.shell:.3g} s" if row.shell is not None else row.note
    cells = (
        row.daemon,
        row.size,
        row.case,
        f"{row.wall:.3g} s",
        row.requests,
        f"{row.mib:.0f} MiB",
        shell.replace("|", "\\|"),
    )
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    main()
