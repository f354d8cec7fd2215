# SPDX-License-Identifier: LGPL-2.1-or-later
"""xlmt reconcile, repair and list: what they change, say and leave alone."""

from __future__ import annotations

import itertools
import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.stack.hypervisor import DYING
from tests.stack.product import complaint, ok
from tests.stack.proxy import Packet
from tests.stack.stack import BUS, MTWATCH, Stack
from tests.stack.trace import writes

XLMT = Path(sys.executable).parent / "xlmt"
FOREIGN = ("abc", "007", "0", "40000", "32752", "-1", "a@b_c-d", "x" * 2000)


def add_nodes(stack: Stack, *names: object, perms: str = "n0") -> None:
    with stack.client() as client:
        for name in names:
            client.mkdir(f"{MTWATCH}/{name}")
            client.set_perms(f"{MTWATCH}/{name}", perms)


def messy(stack: Stack) -> None:
    """1 is in order, 2 and 3 are missing, 8 and 9 orphans, 10 lingers, 4 is being born."""
    stack.add_domains([1, 2, 3])
    add_nodes(stack, 1, 8, 9, 10, "abc")
    stack.hold_device(10)
    stack.hypervisor.add(4)


def document(done: subprocess.CompletedProcess[str]) -> Any:
    return json.loads(done.stdout)


def changed_by(stack: Stack, *arguments: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run xlmt; also return the paths that it sent changes of, by the daemon's own log."""
    before = len(stack.trace())
    done = stack.xlmt(*arguments)
    return done, [request.path for request in writes(stack.trace()[before:])]


# --- reconcile -----------------------------------------------------------------------------


def test_a_pass_adds_what_is_missing_and_removes_what_is_left_over(stack: Stack) -> None:
    messy(stack)
    done, changed = changed_by(stack, "reconcile")
    assert ok(done).stderr == ""
    assert done.stdout.splitlines() == [
        "node 2 added: d2 (domain 2) runs without a node",
        "node 3 added: d3 (domain 3) runs without a node",
        "node 8 removed: domain 8 is gone and the kernel holds none of its devices",
        "node 9 removed: domain 9 is gone and the kernel holds none of its devices",
    ]
    assert stack.nodes() == dict.fromkeys(["1", "2", "3", "10", "abc"], "n0")
    assert set(changed) == {f"{MTWATCH}/{domid}" for domid in (2, 3, 8, 9)}


def test_a_second_pass_says_and_changes_nothing(stack: Stack) -> None:
    messy(stack)
    ok(stack.xlmt("reconcile"))
    done, changed = changed_by(stack, "reconcile")
    assert (done.returncode, done.stdout, done.stderr, changed) == (0, "", "", [])


def test_a_dry_run_says_the_same_and_changes_nothing(stack: Stack) -> None:
    messy(stack)
    done, changed = changed_by(stack, "reconcile", "--dry-run")
    assert done.returncode == 3
    assert "4 changes needed, none made" in complaint(done)
    assert done.stdout.splitlines()[0] == "node 2 to be added: d2 (domain 2) runs without a node"
    assert len(done.stdout.splitlines()) == 4
    assert changed == []
    ok(stack.xlmt("reconcile"))
    assert ok(stack.xlmt("reconcile", "-n")).stdout == ""


def test_the_document_of_a_pass(stack: Stack) -> None:
    messy(stack)
    read = document(ok(stack.xlmt("reconcile", "-o", "json")))
    assert [(a["domid"], a["action"], a["state"], a["result"]) for a in read["actions"]] == [
        (2, "add", "missing", "done"),
        (3, "add", "missing", "done"),
        (8, "remove", "orphan", "done"),
        (9, "remove", "orphan", "done"),
    ]
    assert [(k["domid"], k["state"]) for k in read["kept"]] == [(10, "lingering")]
    assert (read["foreign"], read["refused"], read["complete"]) == (["abc"], False, True)
    assert document(ok(stack.xlmt("reconcile", "-o", "json")))["actions"] == []


def test_verbose_tells_what_is_left_alone(stack: Stack) -> None:
    messy(stack)
    ok(stack.xlmt("reconcile"))
    assert ok(stack.xlmt("-v", "reconcile")).stderr.splitlines() == [
        "xlmt: node 10 kept: domain 10 is gone, but the kernel still holds vif-10-0",
        "xlmt: node abc ignored: its name is no domid of a guest",
    ]


def test_quiet_tells_only_what_failed(stack: Stack) -> None:
    messy(stack)
    done = ok(stack.xlmt("-q", "reconcile"))
    assert (done.stdout, done.stderr) == ("", "")
    assert "2" in stack.nodes()


def test_a_lingering_node_goes_once_the_kernel_lets_go(stack: Stack) -> None:
    add_nodes(stack, 10)
    with stack.kernel_holds(10):
        assert ok(stack.xlmt("reconcile")).stdout == ""
        assert stack.nodes() == {"10": "n0"}
    assert "node 10 removed" in ok(stack.xlmt("reconcile")).stdout
    assert stack.nodes() == {}


def test_a_device_that_is_off_its_bus_keeps_the_node_and_is_named(stack: Stack) -> None:
    """Its driver is taking it down, and may be blocked in there."""
    add_nodes(stack, 10)
    with stack.kernel_holds(10, "vbd-10-51712"):
        stack.begin_removal(10, "vbd-10-51712")
        assert ok(stack.xlmt("reconcile")).stdout == ""
        assert stack.nodes() == {"10": "n0"}
        assert "vbd-10-51712" in ok(stack.xlmt("list")).stdout
    assert "node 10 removed" in ok(stack.xlmt("reconcile")).stdout


def test_a_dead_domain_that_lists_as_alive_keeps_its_node(stack: Stack) -> None:
    """libxl has removed its home; the hypervisor still relinquishes its memory."""
    stack.hypervisor.add(5)
    add_nodes(stack, 5)
    assert ok(stack.xlmt("reconcile")).stdout == ""
    assert stack.nodes() == {"5": "n0"}


def test_the_first_node_ever_makes_the_directory_for_dom0_only(stack: Stack) -> None:
    stack.add_domains([1])
    ok(stack.xlmt("reconcile"))
    with stack.client() as client:
        assert client.perms(MTWATCH) == ["n0"]
    assert stack.nodes() == {"1": "n0"}


def test_the_gate(stack: Stack) -> None:
    stack.add_domains(range(1, 7))
    add_nodes(stack, *range(1, 6), *range(100, 109))  # 9 orphans of 14
    done = stack.xlmt("reconcile")
    assert done.returncode == 4
    assert "9 of 14 nodes" in complaint(done)
    assert "xlmt reconcile --force" in complaint(done)
    assert len(stack.nodes()) == 15  # what was missing has been added all the same
    as_json = stack.xlmt("reconcile", "-o", "json")
    assert as_json.returncode == 4
    assert document(as_json)["refused"]
    assert {a["result"] for a in document(as_json)["actions"]} == {"planned"}
    dry = stack.xlmt("reconcile", "-n")
    assert dry.returncode == 3
    assert len(dry.stdout.splitlines()) == 9
    assert "--force" in dry.stderr
    assert len(ok(stack.xlmt("reconcile", "--force")).stdout.splitlines()) == 9
    assert set(stack.nodes()) == set(map(str, range(1, 7)))


def test_a_few_removals_pass_the_gate_whatever_their_share(stack: Stack) -> None:
    add_nodes(stack, *range(100, 108))
    assert len(ok(stack.xlmt("reconcile")).stdout.splitlines()) == 8
    assert stack.nodes() == {}


def test_more_than_one_page_and_more_than_one_transaction(stack: Stack) -> None:
    stack.add_domains(range(1, 301))
    add_nodes(stack, *range(10001, 11501))
    ok(stack.xlmt("reconcile", "--force"))
    assert stack.nodes() == {str(domid): "n0" for domid in range(1, 301)}


def test_an_idle_pass_asks_for_pages_and_not_for_domids(stack: Stack) -> None:
    stack.add_domains(range(1, 1501))
    add_nodes(stack, *range(1, 1501))
    with stack.proxy() as proxy:
        ok(stack.xlmt("reconcile", env=proxy.env))
        assert proxy.count < 20


# --- foreign children ----------------------------------------------------------------------


def test_foreign_children_are_reported_safely_and_left_alone(stack: Stack) -> None:
    add_nodes(stack, *FOREIGN)
    done = ok(stack.xlmt("reconcile"))
    assert (done.stdout, done.stderr) == ("", "")
    assert document(ok(stack.xlmt("list", "-o", "json")))["foreign"] == sorted(FOREIGN)
    table = ok(stack.xlmt("list")).stdout.splitlines()
    assert len(table) == 1 + len(FOREIGN)
    assert max(map(len, table)) < 120
    assert set(stack.nodes()) == set(FOREIGN)


def test_foreign_children_are_removed_if_asked(stack: Stack) -> None:
    stack.add_domains([1])
    add_nodes(stack, 1, *FOREIGN[:6])
    with stack.client() as client:
        client.write(f"{MTWATCH}/abc/below/it", "x")
    done = ok(stack.xlmt("reconcile", "--prune-foreign"))
    assert len(done.stdout.splitlines()) == 6
    assert stack.nodes() == {"1": "n0"}


def test_control_characters_are_no_commands_to_a_terminal(stack: Stack) -> None:
    names = []
    with stack.client() as client:
        for name in ("a\x1b[2Jb", "a\nb", "a\tb", "caf\u00e9", "a b", "\x7f"):
            try:
                client.mkdir(f"{MTWATCH}/{name}")
            except OSError:
                continue  # not let through by this daemon
            names.append(name)
    for command in (["list"], ["-v", "reconcile"], ["reconcile", "-n", "--prune-foreign"]):
        done = stack.xlmt(*command)
        text = (done.stdout + done.stderr).replace("\n", "")
        assert text.isprintable(), names
        assert "Traceback" not in text
    assert set(document(ok(stack.xlmt("list", "-o", "json")))["foreign"]) == set(names)


# --- repair --------------------------------------------------------------------------------


def test_repair_puts_owner_permissions_and_contents_right(stack: Stack) -> None:
    stack.add_domains([1, 2, 3])
    add_nodes(stack, 1, 2)
    with stack.client() as client:
        client.set_perms(f"{MTWATCH}/1", "n1", "r2")
        client.write(f"{MTWATCH}/2", "value")
        client.write(f"{MTWATCH}/2/child/deeper", "x")
    done, changed = changed_by(stack, "repair", "1", "d2", "3")
    assert ok(done).stdout.splitlines() == [
        "node 3 added: d3 (domain 3) runs without a node",
        "node 1 repaired: its permissions are n1 r2 and not n0",
        "node 2 repaired: it has a value and it has child nodes (1)",
    ]
    assert stack.nodes() == {"1": "n0", "2": "n0", "3": "n0"}
    with stack.client() as client:
        assert client.read(f"{MTWATCH}/2") == ""
        assert client.ls(f"{MTWATCH}/2") == []
    # Never by removing it: a kernel that reads the nodes would end the thread.
    removals = [r.path for r in writes(stack.trace()) if r.op == "RM"]
    assert not {f"{MTWATCH}/1", f"{MTWATCH}/2"} & set(removals)
    assert f"{MTWATCH}/3" in changed


def test_repair_touches_only_the_domains_it_was_given(stack: Stack) -> None:
    messy(stack)
    done = ok(stack.xlmt("repair", "1", "2", "8", "10", "4"))
    assert done.stdout.splitlines() == [
        "node 1 in order",
        "node 4 unchanged: the domain is being created or destroyed; try again",
        "node 10 kept: the domain is gone, but the kernel still holds vif-10-0",
        "node 2 added: d2 (domain 2) runs without a node",
        "node 8 removed: domain 8 is gone and the kernel holds none of its devices",
    ]
    assert set(stack.nodes()) == {"1", "2", "9", "10", "abc"}


def test_repair_of_all(stack: Stack) -> None:
    messy(stack)
    with stack.client() as client:
        client.set_perms(f"{MTWATCH}/10", "b0")
    assert len(ok(stack.xlmt("repair", "--all")).stdout.splitlines()) == 5
    assert stack.nodes() == dict.fromkeys(["1", "2", "3", "10", "abc"], "n0")
    assert ok(stack.xlmt("repair", "--all")).stdout == "4 nodes checked: nothing to repair\n"


def test_a_dry_repair_changes_nothing(stack: Stack) -> None:
    stack.add_domains([1])
    add_nodes(stack, 1, perms="b0")
    done, changed = changed_by(stack, "repair", "--dry-run", "1")
    assert done.returncode == 3
    assert done.stdout == "node 1 to be repaired: its permissions are b0 and not n0\n"
    assert changed == []


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["repair"], 2, "--all"),
        (["repair", "1", "--all"], 2, "--all"),
        (["repair", "0"], 4, "domain 0"),
        (["repair", "Domain-0"], 4, "domain 0"),
        (["repair", "1", "nobody"], 1, "nobody"),
        (["reconcile", "7"], 2, "7"),
        (["reconcile", "-o", "table"], 2, "table"),
    ],
)
def test_bad_input_changes_nothing(
    stack: Stack, arguments: list[str], status: int, words: str
) -> None:
    stack.add_domains([1])
    done, changed = changed_by(stack, *arguments)
    assert done.returncode == status
    assert words in complaint(done)
    assert changed == []


# --- on a terminal -------------------------------------------------------------------------


def on_a_terminal(stack: Stack, *arguments: str, columns: int = 80, **env: str) -> str:
    """What a person sees of xlmt, standard output and error on one terminal."""
    reader, writer = pty.openpty()
    size = {"COLUMNS": str(columns), "LINES": "24", "TERM": "xterm"}
    process = subprocess.Popen(
        stack.enter(XLMT, *arguments),
        env=stack.env(size | env),
        stdin=subprocess.DEVNULL,
        stdout=writer,
        stderr=writer,
        start_new_session=True,
    )
    os.close(writer)
    seen = b""
    try:
        while chunk := os.read(reader, 65536):
            seen += chunk
    except OSError:  # the other side is closed
        pass
    finally:
        os.close(reader)
        process.wait(60)
    return seen.decode().replace("\r\n", "\n")


def test_a_terminal_gets_colours_and_lines_that_fit(stack: Stack) -> None:
    messy(stack)
    seen = on_a_terminal(stack, "list", columns=50)
    assert "\x1b[31mmissing\x1b[0m" in seen
    assert "\x1b[32mok\x1b[0m" in seen
    plain = on_a_terminal(stack, "list", columns=50, NO_COLOR="1")
    assert "\x1b" not in plain
    assert max(map(len, plain.splitlines())) == 50
    assert "\x1b" not in ok(stack.xlmt("list")).stdout


def test_a_person_is_told_what_is_kept(stack: Stack) -> None:
    messy(stack)
    ok(stack.xlmt("reconcile"))
    seen = on_a_terminal(stack, "reconcile")
    assert seen.splitlines() == [
        "xlmt: node 10 kept: domain 10 is gone, but the kernel still holds vif-10-0",
        "xlmt: node abc ignored: its name is no domid of a guest",
    ]


def test_long_work_shows_how_far_it_is(stack: Stack) -> None:
    add_nodes(stack, *range(1, 401))
    assert "100%" in on_a_terminal(stack, "reconcile", "--force", "-o", "json")
    assert "100%" not in on_a_terminal(stack, "reconcile", "-o", "json")


@pytest.mark.parametrize("redirection", [">/dev/full", "| head -1", "2>&-", ">&-"])
def test_who_reads_of_it_makes_no_difference_to_the_work(stack: Stack, redirection: str) -> None:
    stack.add_domains(range(1, 201))
    done = stack.run("sh", "-c", f"{XLMT} reconcile {redirection}")
    assert "Traceback" not in done.stderr
    assert len(stack.nodes()) == 200


def test_a_name_that_the_locale_cannot_show(stack: Stack) -> None:
    stack.add_domains([1])
    with stack.client() as client:
        client.write("/local/domain/1/name", "日本")
    env = {"PYTHONIOENCODING": "latin-1"}
    assert "node 1 added" in ok(stack.xlmt("reconcile", env=env)).stdout
    assert "\\u65e5" in ok(stack.xlmt("list", env=env)).stdout


def test_a_name_that_cannot_be_read_stops_nothing(stack: Stack) -> None:
    stack.add_domains([1])
    with stack.proxy() as proxy:
        proxy.refuse(lambda packet: packet.path.endswith("/name"), "EIO")
        ok(stack.xlmt("reconcile", env=proxy.env))
        assert proxy.fired.is_set()
    assert stack.nodes() == {"1": "n0"}


def test_a_node_that_cannot_be_looked_into_stops_no_other(stack: Stack) -> None:
    stack.add_domains([1, 2])
    add_nodes(stack, 1, 2, perms="b0")
    with stack.proxy() as proxy:
        proxy.refuse(lambda p: p.op == "GET_PERMS" and p.path.endswith("/1") and not p.tx, "EIO")
        done = stack.xlmt("repair", "--all", env=proxy.env)
    assert done.returncode == 1
    assert f"cannot read everything: cannot read the permissions of {MTWATCH}/1" in (
        complaint(done)
    )
    assert stack.nodes() == {"1": "b0", "2": "n0"}


def test_all_that_went_wrong_is_said_in_one_line(stack: Stack) -> None:
    stack.add_domains([1])
    add_nodes(stack, *range(100, 120))
    with stack.proxy() as proxy:
        proxy.refuse(lambda packet: packet.op == "MKDIR", "EACCES")
        done = stack.xlmt("reconcile", env=proxy.env)
    assert done.returncode == 1
    assert "node 1 not added" in complaint(done)
    assert "20 of 20 nodes" in complaint(done)


# --- what is so for a moment -----------------------------------------------------------------


def starting(packet: Packet) -> bool:
    return packet.op == "TRANSACTION_START"


def listing(path: str) -> Callable[[Packet], bool]:
    """The request for what is below the path."""
    return lambda packet: (packet.op, packet.path) == ("DIRECTORY", path)


def is_created(stack: Stack, domid: int) -> None:
    add_nodes(stack, domid)
    stack.add_domains([domid])


def loses_its_node(stack: Stack, domid: int) -> None:
    with stack.client() as client:
        client.rm(f"{MTWATCH}/{domid}")


@pytest.mark.parametrize("command", [["list"], ["reconcile", "--dry-run"]], ids=lambda c: c[0])
def test_a_guest_that_comes_or_goes_meanwhile_is_not_out_of_order(
    stack: Stack, command: list[str]
) -> None:
    """5 is created between the look at the nodes and that at the homes; 8 is being destroyed."""
    stack.add_domains([1])
    add_nodes(stack, 1, 8)
    teardown = threading.Timer(0.4, loses_its_node, (stack, 8))

    def looks_at_homes() -> None:
        is_created(stack, 5)
        teardown.start()

    with stack.proxy() as proxy:
        proxy.call_at(listing("/local/domain"), looks_at_homes)
        said = ok(stack.xlmt(*command, env=proxy.env)).stdout
    teardown.join()
    assert ("missing" in said, "orphan" in said, "node 8" in said) == (False, False, False)
    assert stack.nodes() == {"1": "n0", "5": "n0"}


def test_a_host_on_which_all_is_well_is_looked_at_once(stack: Stack) -> None:
    stack.add_domains([1])
    add_nodes(stack, 1)
    for command in (["list"], ["reconcile", "--dry-run"]):
        with stack.proxy() as proxy:
            ok(stack.xlmt(*command, env=proxy.env))
            assert [p.path for p in proxy.seen if p.op == "DIRECTORY"].count(MTWATCH) == 1


def test_removals_are_refused_only_if_they_are_still_to_be_made_a_second_later(
    stack: Stack,
) -> None:
    """Many guests are destroyed at once, each of which takes its node with it."""
    add_nodes(stack, *range(100, 112))

    def lose_most() -> None:
        for domid in range(100, 110):
            loses_its_node(stack, domid)

    with stack.proxy() as proxy:
        proxy.call_at(starting, lose_most)
        done = ok(stack.xlmt("reconcile", env=proxy.env))
    assert done.stdout.count("removed") == 2
    assert stack.nodes() == {}


# --- what has changed since it was planned ---------------------------------------------------


def test_a_node_that_the_kernel_needs_since_it_was_planned_is_kept(stack: Stack) -> None:
    add_nodes(stack, 9)
    with stack.proxy() as proxy:
        proxy.call_at(starting, lambda: stack.hold_device(9))
        assert ok(stack.xlmt("reconcile", env=proxy.env)).stdout == ""
    assert stack.nodes() == {"9": "n0"}


def test_a_domain_that_is_torn_down_since_it_was_planned_gets_no_node(stack: Stack) -> None:
    stack.add_domains([9])

    def remove_home() -> None:
        with stack.client() as client:
            client.rm("/local/domain/9")

    with stack.proxy() as proxy:
        proxy.call_at(starting, remove_home)
        ok(stack.xlmt("reconcile", env=proxy.env))
    assert stack.nodes() == {}


def test_the_node_of_a_dead_domain_goes(stack: Stack) -> None:
    stack.hypervisor.add(9, flags=DYING)
    add_nodes(stack, 9)
    ok(stack.xlmt("reconcile"))
    assert stack.nodes() == {}


def test_a_sysfs_that_is_lost_since_it_was_planned_leads_to_no_removal(stack: Stack) -> None:
    add_nodes(stack, 9)
    devices = stack.path(BUS)

    def lose() -> None:
        devices.rename(devices.with_name("away"))
        devices.write_text("")

    with stack.proxy() as proxy:
        proxy.call_at(starting, lose)
        done = stack.xlmt("reconcile", env=proxy.env)
    assert done.returncode == 1
    assert "node 9 not removed" in complaint(done)
    assert stack.nodes() == {"9": "n0"}


# --- two at once ---------------------------------------------------------------------------


def test_two_at_once_do_the_work_once(stack: Stack) -> None:
    stack.add_domains(range(1, 101))
    add_nodes(stack, *range(200, 400))
    both = [stack.popen(XLMT, "reconcile", "--force") for _ in range(2)]
    said = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    lines = [line for out, _ in said for line in out.splitlines()]
    assert len(lines) == len(set(lines)) == 300
    assert stack.nodes() == {str(domid): "n0" for domid in range(1, 101)}


def test_every_commit_conflicting_ends_and_says_so(stack: Stack) -> None:
    stack.add_domains([1])
    with stack.proxy() as proxy:
        proxy.eagain(100_000)
        done = stack.xlmt("reconcile", env=proxy.env)
    assert done.returncode == 1
    assert "kept conflicting" in complaint(done)
    assert stack.nodes() == {}


def test_many_conflicts_in_a_row_are_outlasted(stack: Stack) -> None:
    stack.add_domains(range(1, 101))
    add_nodes(stack, *range(200, 260))
    with stack.proxy() as proxy:
        proxy.eagain(150)
        ok(stack.xlmt("reconcile", "--force", env=proxy.env))
        assert proxy.aborts == 150
    assert stack.nodes() == {str(domid): "n0" for domid in range(1, 101)}


def test_one_node_that_cannot_be_changed_stops_no_other(stack: Stack) -> None:
    stack.add_domains(range(1, 20))
    add_nodes(stack, "abc", "zz", 30)
    with stack.proxy() as proxy:
        proxy.refuse(lambda packet: packet.op == "RM" and packet.path.endswith("/abc"), "EACCES")
        done = stack.xlmt("reconcile", "--prune-foreign", env=proxy.env)
    assert done.returncode == 1
    assert "node abc not removed" in complaint(done)
    assert set(stack.nodes()) == {"abc", *map(str, range(1, 20))}


# --- faults --------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["list", "info"])
def test_a_hypervisor_that_does_not_answer_leads_to_no_change(stack: Stack, fault: str) -> None:
    messy(stack)
    before = stack.nodes()
    with stack.hypervisor.fault(fault):
        done = stack.xlmt("reconcile", timeout=60)
    assert done.returncode == {"list": 5, "info": 1}[fault]
    assert {"list": "no node is removed", "info": "node 2 not added"}[fault] in complaint(done)
    assert stack.nodes() == before


def test_a_sysfs_that_cannot_be_read_leads_to_no_removal(stack: Stack) -> None:
    messy(stack)
    devices = stack.path(BUS)
    away = devices.with_name("away")
    devices.rename(away)
    devices.write_text("")
    done = stack.xlmt("reconcile")
    assert done.returncode == 1
    assert "no node is removed" in complaint(done)
    assert "kernel backends" in complaint(done)
    # What the kernel holds makes no difference to a domain that lives.
    assert set(stack.nodes()) == {"1", "2", "3", "8", "9", "10", "abc"}
    devices.unlink()
    away.rename(devices)
    assert len(ok(stack.xlmt("reconcile")).stdout.splitlines()) == 2


def request_of_the_pass(number: int) -> Callable[[Packet], bool]:
    """The request of that number, from 1, of the thread that does the work.

    The thread beside it asks for domain 0's path every two seconds, which is also the work's first
    request; when a connection of the other's is lost, the pass goes on.
    """
    numbers = itertools.count(1)
    pings = itertools.count()
    return lambda p: not (p.op == "GET_DOMAIN_PATH" and next(pings)) and next(numbers) == number


def lose_xenstored(stack: Stack, fault: str, number: int) -> bool:
    """Do a pass in which xenstored is lost at that request; False when there was none such."""
    when = request_of_the_pass(number)
    stack.add_domains([1, 2])
    add_nodes(stack, 1, 9)
    with stack.proxy() as proxy:
        if fault == "kill_at":
            proxy.kill_at(when, stack.kill_daemon)
        else:
            getattr(proxy, fault)(when)
        done = stack.xlmt("reconcile", env=proxy.env, timeout=40)
        if not proxy.fired.is_set():
            ok(done)
            return False
    assert done.returncode == 5, done
    assert "xenstored" in complaint(done)
    if fault == "kill_at":
        stack.restart_daemon()
        stack.add_domains([1, 2])
    else:
        assert "1" in stack.nodes()
    ok(stack.xlmt("reconcile"))
    assert set(stack.nodes()) == {"1", "2"}
    with stack.client() as client:
        client.rm(f"{MTWATCH}/2")
    return True


@pytest.mark.parametrize("fault", ["kill_at", "drop_at"])
def test_a_xenstored_that_is_lost_at_any_request(stack: Stack, fault: str) -> None:
    lost = 0
    while lose_xenstored(stack, fault, lost + 1):
        lost += 1
    assert lost > 14


@pytest.mark.parametrize("fault", ["mute_at", "half_reply_at"])
@pytest.mark.parametrize("number", [2, 12])
def test_a_xenstored_that_falls_silent(stack: Stack, fault: str, number: int) -> None:
    assert lose_xenstored(stack, fault, number)
