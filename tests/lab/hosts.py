# SPDX-License-Identifier: LGPL-2.1-or-later
"""On which hosts of the `lab` fixture a test runs: the one place that says so.

A host is named by its xenstored and, if it is not the usual one, its release: "c-bookworm". A test
without a mark runs on "c". So everything runs on Debian 13, and on Debian 12 what may differ there:
the contract, and what the kernel half does on that kernel.
"""

import pytest


def on(*hosts: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("lab", hosts, indirect=True, scope="session")


BOTH_DAEMONS = on("c", "ocaml")
BOTH_RELEASES = on("c", "c-bookworm")
