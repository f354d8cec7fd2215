# SPDX-License-Identifier: LGPL-2.1-or-later
"""Programs are found where administrators have them, and nowhere else; odd files are named."""

import os
import socket
from pathlib import Path

import pytest

from xlmt import files


@pytest.mark.parametrize("path", ["", ":", ".", "bin:.", "::{tmp}/bin"])
def test_no_program_is_run_from_where_we_happen_to_be(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in (tmp_path, tmp_path / "bin"):
        place.mkdir(exist_ok=True)
        (place / "modprobe-of-mine").write_text("#!/bin/sh\n")
        (place / "modprobe-of-mine").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", path.format(tmp=tmp_path))
    there = tmp_path / "bin/modprobe-of-mine" if "{tmp}" in path else None
    assert files.program("modprobe-of-mine") == (str(there) if there else None)


def test_a_program_of_an_administrators_is_found_without_being_in_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "tc").write_text("#!/bin/sh\n")
    (tmp_path / "tc").chmod(0o755)
    monkeypatch.setattr(files, "_SBIN", (str(tmp_path),))
    monkeypatch.setenv("PATH", "/nowhere")
    assert files.program("tc") == str(tmp_path / "tc")


@pytest.mark.parametrize(
    ("kind", "made"),
    [
        ("a FIFO", os.mkfifo),
        ("a directory", os.mkdir),
        ("a symbolic link", lambda path: path.symlink_to("/etc/hostname")),
        ("a socket", lambda path: socket.socket(socket.AF_UNIX).bind(str(path))),
    ],
)
def test_what_is_no_plain_file_is_named(kind: str, made: object, tmp_path: Path) -> None:
    assert callable(made)
    made(tmp_path / "odd")
    with pytest.raises(files.NotPlainError, match=kind):
        files.read_plain(tmp_path / "odd")
