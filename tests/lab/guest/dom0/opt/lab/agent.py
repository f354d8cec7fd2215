#!/usr/bin/python3 -IS
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Runs in dom0: commands come in and results go out on a virtio-serial port, a JSON line each.

in:  {"id": 7, "command": "xl list", "timeout": 60.0, "stdin": ""}
out: {"id": 7, "rc": 0, "out": "base64", "err": "base64"}; rc null: killed at the timeout
Output goes through files, not pipes: a daemon that a command leaves behind would keep a pipe
open, and the result would never come.
"""

import contextlib
import json
import os
import signal
import subprocess
import tempfile
import threading
from base64 import b64encode
from pathlib import Path
from typing import IO, Any

PORT = "xlmt.lab"
KILL_GRACE_S = 2.0  # a task in state D does not even die


def find_port() -> str:
    for name in Path("/sys/class/virtio-ports").glob("*/name"):
        if name.read_text().strip() == PORT:
            return f"/dev/{name.parent.name}"
    raise SystemExit(f"no virtio-serial port is called {PORT}")


def run(request: dict[str, Any]) -> dict[str, Any]:
    new = tempfile.TemporaryFile
    with new() as given, new() as out, new() as err:
        given.write(request["stdin"].encode())
        given.seek(0)
        rc = execute(request["command"], request["timeout"], given, out, err)
        for stream in (out, err):
            stream.seek(0)
        texts = {"out": b64encode(out.read()).decode(), "err": b64encode(err.read()).decode()}
        return {"id": request["id"], "rc": rc, **texts}


def execute(
    command: str, timeout: float, given: IO[bytes], out: IO[bytes], err: IO[bytes]
) -> int | None:
    child = subprocess.Popen(
        ["/bin/bash", "-c", command],
        stdin=given,
        stdout=out,
        stderr=err,
        start_new_session=True,
    )
    try:
        return child.wait(timeout)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(KILL_GRACE_S)
    return None


def main() -> None:
    writing = threading.Lock()
    with open(find_port(), "r+b", buffering=0) as port:  # noqa: PTH123

        def send(message: dict[str, Any]) -> None:
            data = json.dumps(message).encode() + b"\n"
            with writing:
                while data:
                    data = data[port.write(data) or 0 :]

        def serve(request: dict[str, Any]) -> None:
            send(run(request))

        send({"id": 0, "rc": 0, "out": "", "err": ""})  # dom0 is up
        for line in lines(port):
            threading.Thread(target=serve, args=[json.loads(line)], daemon=True).start()


def lines(port: IO[bytes]) -> Any:
    rest = b""
    while data := port.read(65536):
        *whole, rest = (rest + data).split(b"\n")
        yield from whole


if __name__ == "__main__":
    main()
