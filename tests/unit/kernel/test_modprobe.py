# SPDX-License-Identifier: LGPL-2.1-or-later
"""What goes to modprobe, and what its words and the kernel's mean."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmt.errors import NoXenError, UsageError
from xlmt.kernel import modprobe

COULD_NOT = "modprobe: ERROR: could not insert 'xen_mtwatch': "


def test_parameters_are_told_apart() -> None:
    found = modprobe.settings(["mode=auto", "enabled=0", "warn_secs=5", "max_threads=16"])
    assert found == {"mode": "auto", "enabled": "0", "warn_secs": "5", "max_threads": "16"}


def test_the_last_of_two_counts() -> None:
    assert modprobe.settings(["mode=auto", "mode=node"]) == {"mode": "node"}


@pytest.mark.parametrize("argument", ["mood=auto", "mode", "=auto", "", "-f", "Mode=auto"])
def test_what_is_no_parameter_is_an_error_that_names_them(argument: str) -> None:
    with pytest.raises(UsageError, match=r"mode, .*, max_threads, max_active"):
        modprobe.settings([argument])


@pytest.mark.parametrize(
    "argument",
    [
        "mode=",
        "mode=all",
        "enabled=2",
        "enabled=Y",
        "warn_secs=-1",
        "idle_secs=²",
        "max_threads=0",
        "max_active=-1",
    ],
)
def test_a_value_that_the_module_would_not_take_is_an_error(argument: str) -> None:
    with pytest.raises(UsageError, match=r"^\w+ takes "):
        modprobe.settings([argument])


@given(st.lists(st.text()))
def test_whatever_is_accepted_is_a_word_of_ascii(arguments: list[str]) -> None:
    try:
        found = modprobe.settings(arguments)
    except UsageError:
        return
    assert all(value.isascii() and value.isalnum() for value in found.values())


@pytest.mark.parametrize("step", [1, 2, 3, 7])
def test_a_hint_names_every_domid_in_ascending_ranges(step: int) -> None:
    domids = [domid for domid in range(1, 0x7FF0, step) if domid % 5 < 3]
    told = modprobe.hint([str(domid) for domid in reversed(domids)] + ["x"])["domids"]
    ends = [[int(end) for end in part.split("-")] for part in told.split(",")]
    assert [d for end in ends for d in range(end[0], end[-1] + 1)] == domids


def test_few_nodes_are_listed_by_the_module_itself() -> None:
    assert modprobe.hint([str(domid) for domid in range(1, 600)]) == {}
    assert modprobe.hint(["x" * 99] * 99) == {}


def test_modprobe_is_to_tell_a_refusal_from_a_module_that_is_loaded() -> None:
    assert modprobe.command({"mode": "node"}) == [
        "modprobe",
        "--first-time",
        "xen_mtwatch",
        "mode=node",
    ]


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (
            "modprobe: FATAL: Module xen_mtwatch not found in directory /lib/modules/6.1.0",
            r"not built for this kernel: build it, .*make -C kernel .* depmod -a.*DKMS.*install.md",
        ),
        (COULD_NOT + "Exec format error", "built for another kernel"),
        (
            COULD_NOT + "Unknown symbol in module, or unknown parameter (see dmesg)",
            "built for another kernel",
        ),
        (COULD_NOT + "Key was rejected by service", "Secure Boot.*mokutil --import"),
        (
            COULD_NOT + "Operation not permitted",
            "modules_disabled is 1.*locked down: Secure Boot.*mokutil --import",
        ),
        (COULD_NOT + "Device or resource busy", "live patch.*ftrace_enabled=1.*patch of 2018"),
        (COULD_NOT + "No such device", "not domain 0"),
        (COULD_NOT + "Invalid argument", "does not accept these parameters"),
        (COULD_NOT + "Out of cheese", "ERROR: could not insert 'xen_mtwatch': Out of cheese$"),
        ("", "modprobe does not say why"),
    ],
)
def test_a_refusal_says_in_one_line_what_it_means(said: str, meant: str) -> None:
    error = modprobe.refusal(said, None)
    assert re.match(f"cannot load xen_mtwatch: .*{meant}", str(error))


def test_not_domain_0_is_no_xen_here() -> None:
    assert isinstance(modprobe.refusal(COULD_NOT + "No such device", None), NoXenError)


def test_the_module_knows_better_than_modprobe_why_there_is_no_such_device() -> None:
    error = modprobe.refusal(
        COULD_NOT + "No such device",
        "refused: the kernel's watches are not where they are expected",
    )
    assert not isinstance(error, NoXenError)
    assert "does not support this kernel" in str(error)


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        (
            "refused by ftrace (-16): it is off, or a live patch has the same functions",
            "live patch",
        ),
        (
            "refused by ftrace (-16): it has given up after a bug of its own, "
            "which only a reboot mends",
            "only a reboot mends",
        ),
        ("refused by ftrace (-12): memory is short", "memory is short"),
        ("refused: this is for dom0, and not for a guest or a driver domain", "not domain 0"),
        ("refused: this kernel has threads for domains already (x watches mtwatch)", "of 2018"),
    ],
)
def test_the_module_s_own_words_decide(word: str, meant: str) -> None:
    assert meant in str(modprobe.refusal(COULD_NOT + "Something else", word)).partition("(the")[0]


def test_the_kernel_s_own_words_are_added() -> None:
    error = modprobe.refusal(COULD_NOT + "Device or resource busy", "ftrace is disabled")
    assert str(error).endswith('(the kernel says: "ftrace is disabled")')


@given(st.text(), st.none() | st.text())
def test_any_words_make_an_error(said: str, kernel_said: str | None) -> None:
    assert str(modprobe.refusal(said, kernel_said)).startswith("cannot load xen_mtwatch: ")


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (
            b"3,812,5000,-;xen_mtwatch: ftrace is disabled\n SUBSYSTEM=module\n",
            "ftrace is disabled",
        ),
        (b"3,812,5000,-,caller=T1;xen_mtwatch: a; b\n", "a; b"),
        (b"4,812,5000,-;xen_mtwatch: loading out-of-tree module taints kernel.\n", None),
        (
            b"5,812,5000,-;xen_mtwatch: module verification failed: signature and/or required key "
            b"missing - tainting kernel\n",
            None,
        ),
        (b"6,812,5000,-;vif vif-1-0: xen_mtwatch: hm\n", None),
        (b"6,812,5000,-;xen_mtwatch:\n", None),
        (b"6,812,5000,-;\xff\n", None),
        (b"", None),
    ],
)
def test_the_module_s_records_are_told_from_the_others(record: bytes, said: str | None) -> None:
    assert modprobe.message(record) == said


@given(st.binary())
def test_any_record_is_read(record: bytes) -> None:
    modprobe.message(record)
