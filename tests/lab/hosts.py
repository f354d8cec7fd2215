# SPDX-License-Identifier: LGPL-2.1-or-later
"""Marks that say on which hosts of the `lab` fixture a test runs."""

import pytest


def on(*hosts: str) -> pytest.MarkDecorator:
    """Hosts are named by the daemon and, if it is not the usual one, dom0's kernel: "c-6.12"."""
    return pytest.mark.parametrize("lab", hosts, indirect=True, scope="session")


BOTH_DAEMONS = on("c", "ocaml")
NEWER_KERNEL = on("c-6.12")
BOTH_KERNELS = on("c", "c-6.12")
