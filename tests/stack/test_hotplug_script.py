# SPDX-License-Identifier: LGPL-2.1-or-later
"""libxl, unhooked, runs the wrapped hotplug script of a vif."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.stack.product import ok
from tests.stack.stack import Stack, eventually

HOOKS = Path(__file__).parents[2] / "hooks"
_LAYERS = """\
set -e
mkdir /run/layer
mount -t tmpfs none /run/layer
mkdir /run/layer/etc /run/layer/work
mount -t overlay -o lowerdir=/etc,upperdir=/run/layer/etc,workdir=/run/layer/work none /etc
mount -t tmpfs none /usr/local
mkdir /usr/local/bin
ln -s "$1" /usr/local/bin/xlmt
printf '#!/bin/sh\\nexec cat >>/run/syslog\\n' >/usr/local/bin/logger
printf '#!/bin/sh\\necho "$* $XENBUS_PATH" >>/run/script\\n' >/etc/xen/scripts/vif-fake
chmod 755 /usr/local/bin/logger /etc/xen/scripts/vif-fake
install "$2" /etc/xen/scripts/vif-fake-xlmt
"""


def test_the_node_is_added_when_the_first_vif_is_connected(stack: Stack) -> None:
    xlmt = Path(sys.executable).parent / "xlmt"
    ok(stack.run("sh", "-c", _LAYERS, "layers", xlmt, HOOKS / "hotplug/xlmt-script"))
    config = stack.guest("g1", vif=["mac=00:16:3e:00:00:01,script=vif-fake-xlmt"])
    with stack.backends():
        ok(stack.xl("create", "-q", config))
        (domid,) = set(stack.domains()) - {0}
        assert eventually(lambda: stack.nodes() == {str(domid): "n0"})
        path = f"backend/vif/{domid}/0"
        assert stack.path("/run/script").read_text() == f"online type_if=vif {path}\n"
        log = stack.path("/run/syslog")
        said = f"xlmt: node {domid} added: g1 (domain {domid}) runs without a node\n"
        assert eventually(lambda: log.read_text() == said)
