# SPDX-License-Identifier: LGPL-2.1-or-later
"""How the VM is started. No VM."""

import subprocess
from pathlib import Path

from tests.lab.errors import LabUnavailable
from tests.lab.qemu import FIRST
from tests.lab.root import require_root


def test_the_vm_goes_before_what_else_the_machine_does() -> None:
    try:
        require_root()
    except LabUnavailable:
        allowed = 0
    else:
        allowed = -10
    argv = ["sh", "-c", FIRST, "sh", "sh", "-c", "cat /proc/self/autogroup; nice"]
    told = subprocess.run(
        argv, capture_output=True, text=True, timeout=60, check=True, start_new_session=True
    ).stdout.split()
    assert int(told[-1]) == allowed + int(subprocess.check_output(["nice"], text=True))
    if Path("/proc/self/autogroup").exists():
        assert int(told[-2]) == allowed
