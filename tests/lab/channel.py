# SPDX-License-Identifier: LGPL-2.1-or-later
"""Our end of the agent's line (the other end is guest/dom0/opt/lab/agent.py).

A virtio-serial port of the VM is one half of a socket pair: it carries nothing but JSON lines,
whatever the consoles print, and it reports the end of QEMU as the end of the stream.
"""

import itertools
import json
import queue
import socket
import threading
from base64 import b64decode
from typing import Any

from tests.lab.errors import LabLost

GRACE_S = 30.0  # for a slow host; the agent itself keeps to the timeout

Reply = tuple[int | None, str, str]  # exit status (None: killed at its timeout), stdout, stderr


class Channel:
    """Requests to the agent, from any thread. Every call has a deadline."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._ids = itertools.count(1)
        self._guard = threading.Lock()
        self._writing = threading.Lock()
        # The agent announces itself with a reply to a request 0 that nobody made.
        self._waiting: dict[int, queue.SimpleQueue[Reply | None]] = {0: queue.SimpleQueue()}
        self._ended = False
        threading.Thread(target=self._read, daemon=True).start()

    def wait_for_agent(self, deadline_s: float) -> None:
        """Return when dom0 is up; raise LabLost when it is not after `deadline_s`."""
        self._take(0, deadline_s, "dom0's agent to start")

    def call(self, command: str, timeout: float, stdin: str = "") -> Reply:
        """Run a shell command in dom0, which kills it after `timeout` seconds.

        Raises LabLost when no answer came GRACE_S seconds after that, or QEMU ended.
        """
        number = next(self._ids)
        with self._guard:
            if self._ended:
                raise LabLost("QEMU has ended")
            self._waiting[number] = queue.SimpleQueue()
        request = {"id": number, "command": command, "timeout": timeout, "stdin": stdin}
        try:
            with self._writing:
                self._line.sendall(json.dumps(request).encode() + b"\n")
        except OSError as gone:
            raise LabLost(f"QEMU has ended: {gone}") from gone
        return self._take(number, timeout + GRACE_S, f"an answer to {command!r}")

    def _take(self, number: int, deadline_s: float, what: str) -> Reply:
        try:
            reply = self._waiting[number].get(timeout=deadline_s)
        except queue.Empty:
            raise LabLost(f"waited {deadline_s:.0f} s for {what}") from None
        finally:
            with self._guard:
                del self._waiting[number]
        if reply is None:
            raise LabLost(f"QEMU ended while we waited for {what}")
        return reply

    def _read(self) -> None:
        rest = b""
        try:
            while data := self._line.recv(65536):
                *whole, rest = (rest + data).split(b"\n")
                for line in whole:
                    self._deliver(json.loads(line))
        except OSError:
            pass  # closed by the lab, or reset by QEMU's end: the same as the end of the stream
        with self._guard:
            self._ended = True
            for waiter in self._waiting.values():
                waiter.put(None)

    def _deliver(self, message: dict[str, Any]) -> None:
        out, err = (b64decode(message[key]).decode(errors="replace") for key in ("out", "err"))
        with self._guard:
            waiter = self._waiting.get(message["id"])
        if waiter:  # else its caller gave up
            waiter.put((message["rc"], out, err))
