# SPDX-License-Identifier: LGPL-2.1-or-later
"""A job that cannot be read just now is not lost; what is none is put aside."""

import errno
import os
from pathlib import Path
from typing import NoReturn

import pytest

from xlmt import files
from xlmt.supervise import jobs
from xlmt.supervise.policy import Job, Step

JOB = Job(7, "", {"c_info": {"name": "web1"}}, (Step.CREATE,), life="7-1")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(jobs, "_JOBS", tmp_path)
    return tmp_path


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO])
def test_a_job_that_cannot_be_read_just_now_stays(
    number: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs.keep(JOB)

    def fail(*_: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(files, "read_plain", fail)
        with pytest.raises(OSError, match=os.strerror(number)):
            jobs.load("7-1")
    assert jobs.load("7-1") == JOB


def test_what_is_no_job_is_put_aside(folder: Path) -> None:
    (folder / "7-1.json").mkdir()
    assert jobs.load("7-1") is None
    assert (folder / "7-1.bad").is_dir()
