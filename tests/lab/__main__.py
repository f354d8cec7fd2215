# SPDX-License-Identifier: LGPL-2.1-or-later
"""python -m tests.lab demo | shell | bare: the lab for a person.

shell  on a host that systemd boots, with Xen's packages and ours, of which nothing is set up yet
bare   on one with Xen's daemons and no init system, as most tests have it

Dom0 is made of the release that $XLMT_LAB_RELEASE names, see release.py.
"""

import sys

from tests.lab.demo import Differs, demo
from tests.lab.errors import LabError
from tests.lab.vm import Daemon, Lab

USAGE = "usage: python -m tests.lab demo | shell | bare [c|ocaml]"


def main(arguments: list[str]) -> int:
    match arguments:
        case ["demo", *rest] if rest in ([], ["c"], ["ocaml"]):
            with Lab("ocaml" if rest == ["ocaml"] else "c") as lab:
                demo(lab)
        case ["shell" | "bare" as kind, *rest] if rest in ([], ["c"], ["ocaml"]):
            daemon: Daemon = "ocaml" if rest == ["ocaml"] else "c"
            with Lab(daemon, systemd=kind == "shell", terminal=True) as lab:
                lab.wait_end()
        case _:
            print(USAGE, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Differs as difference:
        sys.exit(f"The demo is not what it should be: {difference}")
    except LabError as error:
        sys.exit(f"The lab does not run here: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
