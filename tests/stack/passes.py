# SPDX-License-Identifier: LGPL-2.1-or-later
"""Passes of reconcile by the dozen: a process that does one whenever it is told to.

What `xlmt reconcile --force` does, by the same functions, without starting Python each time.
"""

from __future__ import annotations

import json
import select
import sys
from collections.abc import Mapping
from typing import Self

from tests.stack.stack import Stack
from xlmt.domains import xl

_LOOP = """
import json, sys
from xlmt.nodes import apply as host, observe, plan as reconcile
from xlmt.errors import XlmtError
from xlmt.libxl import Context
from xlmt.xenstore import Store

for line in sys.stdin:
    try:
        with Store() as store, Context() as ctx:
            plan = reconcile.plan(observe.observe(store, ctx), force=True)
            done = [[o.action.verb, o.action.node, o.result, o.error]
                    for o in host.apply(store, ctx, plan.allowed)]
    except XlmtError as e:
        done = str(e)
    print(json.dumps(done), flush=True)
"""


class Passes:
    """A context manager; `env` may send it through a proxy."""

    def __init__(self, stack: Stack, env: Mapping[str, str] | None = None) -> None:
        self._stack = stack
        self._env = env

    def __enter__(self) -> Self:
        self._process = self._stack.popen(sys.executable, "-c", _LOOP, env=self._env)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate(timeout=10)

    def run(self, timeout: float = 60) -> list[list[str]]:
        """One pass: [verb, node, result, error] of each action; raises when it failed."""
        process = self._process
        assert process.stdin
        assert process.stdout
        process.stdin.write("\n")
        process.stdin.flush()
        if not select.select([process.stdout], [], [], timeout)[0]:
            raise TimeoutError("the pass does not end")
        answer = process.stdout.readline()
        if not answer:
            assert process.stderr
            raise RuntimeError(process.stderr.read())
        done = json.loads(answer)
        if isinstance(done, str):
            raise RuntimeError(done)
        return [[str(word) for word in words] for words in done]


def under_the_hook(stack: Stack) -> dict[str, str]:
    """The environment in which the real xl keeps the contract, as `xlmt xl` sets it."""
    return xl.with_interposer({"LD_PRELOAD": str(stack.fakehv)})
