# SPDX-License-Identifier: LGPL-2.1-or-later
"""`xlmt doctor --stack`: what it prints, and how it exits."""

import subprocess
import sys
from pathlib import Path

import pytest

XLMT = Path(sys.executable).parent / "xlmt"
STALL = (
    b"[<0>] kthread_stop+0x5/0x15\n[<0>] xenvif_free+0x1/0x2 [b]\n[<0>] xenwatch_thread+0x8/0x9\n"
)
IDLE = b"[<0>] xenwatch_thread+0x8/0x9\n[<0>] kthread+0x1/0x2\n"


def doctor(*arguments: str, paste: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [XLMT, "doctor", *arguments], input=paste, capture_output=True, timeout=60, check=False
    )


@pytest.mark.parametrize(("paste", "status"), [(STALL, 3), (IDLE, 0), (IDLE + STALL, 3)])
def test_a_stall_has_status_3(paste: bytes, status: int, tmp_path: Path) -> None:
    file = tmp_path / "paste"
    file.write_bytes(paste)
    told = doctor("--stack", str(file))
    assert told.returncode == status
    assert told.stdout == doctor("--stack", "-", paste=paste).stdout
    assert told.stderr == b""


def test_only_what_is_wrong_can_be_asked_for() -> None:
    assert doctor("-x", "--stack", "-", paste=IDLE).stdout == b""
    assert doctor("-x", "--stack", "-", paste=IDLE + STALL).stdout.count(b"task  ") == 1


@pytest.mark.parametrize("paste", [b"", b"\0\xff\xfe\n" * 99, b"my host is stuck\n"])
def test_what_has_no_trace_is_a_usage_error_in_one_line(paste: bytes) -> None:
    told = doctor("--stack", "-", paste=paste)
    assert told.returncode == 2
    assert told.stderr.startswith(b"xlmt: -: no call trace in it")
    assert told.stderr.count(b"\n") == 1


def test_a_file_that_is_not_there_is_named() -> None:
    told = doctor("--stack", "/nowhere/paste")
    assert told.returncode == 1
    assert told.stderr == b"xlmt: /nowhere/paste: No such file or directory\n"


def test_a_standard_input_that_is_closed_has_no_trace() -> None:
    told = subprocess.run(
        ["sh", "-c", f"exec {XLMT} doctor --stack - <&-"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert told.returncode == 2
    assert told.stderr.startswith(b"xlmt: -: no call trace in it")
