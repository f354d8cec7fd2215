# SPDX-License-Identifier: LGPL-2.1-or-later
"""On which hosts of the `lab` fixture a test runs: the one place that says so.

A host is named by its xenstored and, if it is not the usual one, its release: "c-bookworm". A test
without a mark runs on "c". So everything runs on Debian 13, and on Debian 12 what may differ there:
the contract, and what the kernel half does on that kernel. "c-systemd" is one that systemd boots,
"c-systemd-bookworm" the same of Debian 12. "c-newest" has the newest kernel of Debian's backports,
"c-upstream" one with the patches of kernel/upstream, which has no module. The dom0 of "c-pvh" is a
PVH domain, with one CPU.

Guests with hardware virtualisation run on "c-one", which has one CPU: with two, and a machine that
has other things to do, half of them fall over by a triple fault (4 of 8 PVH guests did; with one
CPU none of 7). The emulator's CPUs race.
"""

import pytest


def on(*hosts: object) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("lab", hosts, indirect=True, scope="session")


BOTH_DAEMONS = on("c", pytest.param("ocaml", marks=pytest.mark.long))
BOTH_RELEASES = on("c", "c-bookworm")
BOTH_IF_LONG = on("c", pytest.param("c-bookworm", marks=pytest.mark.long))
KERNELS_IF_LONG = on(
    "c",
    pytest.param("c-bookworm", marks=pytest.mark.long),
    pytest.param("c-newest", marks=pytest.mark.long),
)
KERNELS = on("c", "c-bookworm", pytest.param("c-newest", marks=pytest.mark.long))
UPSTREAM = on(pytest.param("c-upstream", marks=pytest.mark.long))
ONE_CPU = on("c-one")
SYSTEMD = on("c-systemd", pytest.param("c-systemd-bookworm", marks=pytest.mark.long))
