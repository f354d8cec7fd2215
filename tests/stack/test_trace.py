# SPDX-License-Identifier: LGPL-2.1-or-later
"""Both daemons' logs, read right: no stack is needed for these."""

from __future__ import annotations

import re

import pytest

from tests.stack.trace import Request, creation, parse_c, parse_ocaml, writes

C_CONFLICT = """\
***
CREATE connection 0x55aa
wrl: dom    0      0  msec      10000 credit      -10000 reserve          0 discard
IN 0x55aa 20240131 16:12:39 TRANSACTION_START ( )
OUT 0x55aa 20240131 16:12:39 TRANSACTION_START (1 )
IN 0x55aa 20240131 16:12:39 RM (/local/domain/7 )
OUT 0x55aa 20240131 16:12:39 RM (OK )
IN 0x55aa 20240131 16:12:39 WRITE (/local/domain/7 )
OUT 0x55aa 20240131 16:12:39 WRITE (OK )
IN 0x55aa 20240131 16:12:39 TRANSACTION_END (T )
DESTROY transaction 0x55bb
OUT 0x55aa 20240131 16:12:39 ERROR (EAGAIN )
IN 0x55aa 20240131 16:12:39 TRANSACTION_START ( )
OUT 0x55aa 20240131 16:12:39 TRANSACTION_START (2 )
IN 0x55aa 20240131 16:12:39 WRITE (/local/domain/7 )
OUT 0x55aa 20240131 16:12:39 WRITE (OK )
OUT 0x55aa 20240131 16:12:39 WATCH_EVENT (@introduceDomain token )
IN 0x55aa 20240131 16:12:39 WRITE (/local/domain/7/image two words
and a line)
OUT 0x55aa 20240131 16:12:39 WRITE (OK )
IN 0x55aa 20240131 16:12:39 SET_PERMS (/local/domain/7 n0 r7 )
OUT 0x55aa 20240131 16:12:39 SET_PERMS (OK )
IN 0x55aa 20240131 16:12:39 TRANSACTION_END (T )
OUT 0x55aa 20240131 16:12:39 TRANSACTION_END (OK )
IN 0x55aa 20240131 16:12:39 RM (/local/domain/7/hvmloader )
OUT 0x55aa 20240131 16:12:39 ERROR (ENOENT )
DESTROY connection 0x55aa
CREATE connection 0x55aa
IN 0x55aa 20240131 16:12:40 READ (/test-harness )
OUT 0x55aa 20240131 16:12:40 ERROR (ENOENT )
IN 0x55aa 20240131 16:12:40 RM (/of/the/harness )
"""


def as_since_4_19(log: str) -> str:
    """The same log in the words of Xen 4.19 and later, an answer in two parts as to a socket."""
    log = re.sub(r"^(?=(CREATE|DESTROY) )", "obj: ", log, flags=re.MULTILINE)
    log = re.sub(r"^(?=(IN|OUT) 0x)", "io: ", log, flags=re.MULTILINE)
    log = re.sub(r"^(io: \w+ 0x\w+)", r"\1 (d0)", log, flags=re.MULTILINE)
    answer = re.compile(r"^io: OUT( .*\n)", re.MULTILINE)
    return answer.sub(r"io: OUT(START)\1io: OUT(END)\1", log)


# oxenstored pads; here a $ ends the lines whose last character is a space.
OCAML_CONFLICT = """\
[20240131T16:17:00.161Z]  A5           newconn  $
[20240131T16:17:00.161Z]  A5.1         t start  $
[20240131T16:17:00.161Z]  A5.1         rm        /local/domain/7$
[20240131T16:17:00.161Z]  A5.1         write     /local/domain/7$
[20240131T16:17:00.161Z]  A5.1         t end    $
[20240131T16:17:00.161Z]  A5.1         conflict $
[20240131T16:17:00.161Z]  A5.2         t start  $
[20240131T16:17:00.161Z]  r(1):A5.2    t start  $
[20240131T16:17:00.161Z]  r(1):A5.2    rm        /local/domain/7$
[20240131T16:17:00.161Z]  A5.2         t end    $
[20240131T16:17:00.161Z]  A4           read      /local/pool/0/name$
[20240131T16:17:00.161Z]  A5.1         error     EAGAIN$
[20240131T16:17:00.162Z]  A5.3         t start  $
[20240131T16:17:00.162Z]  A5.3         write     /local/domain/7$
[20240131T16:17:00.162Z]  A5           read      /local/domain/0/name$
[20240131T16:17:00.162Z]  A5.3         write     /local/domain/7/image two words
[20240131T16:17:00.162Z]  A5.3         setperms  /local/domain/7 n0 r7$
[20240131T16:17:00.162Z]  A5.3         t end    $
[20240131T16:17:00.162Z]  A5.3         conflict $
[20240131T16:17:00.162Z]  A5.4         t start  $
[20240131T16:17:00.162Z]  r(3):A5.4    t start  $
[20240131T16:17:00.162Z]  r(3):A5.4    write     /local/domain/7$
[20240131T16:17:00.162Z]  r(3):A5.4    t end    $
[20240131T16:17:00.162Z]  r(3):A5.4    commit   $
[20240131T16:17:00.162Z]  A5.4         t end    $
[20240131T16:17:00.162Z]  A5           w event   /local/domain/7 token$
[20240131T16:17:00.162Z]  A5           reset watches$
[20240131T16:17:00.162Z]  A5           rm        /local/domain/7/hvmloader$
[20240131T16:17:00.162Z]  A5           error     ENOENT$
[20240131T16:17:00.163Z]  A6           read      /test-harness$
[20240131T16:17:00.163Z]  A6           rm        /of/the/harness$
""".replace("$\n", " \n")


REQUESTS = [parse_c(C_CONFLICT), parse_c(as_since_4_19(C_CONFLICT)), parse_ocaml(OCAML_CONFLICT)]


def test_c_logs_of_all_releases_say_the_same() -> None:
    assert as_since_4_19(C_CONFLICT).count("io: OUT(END) 0x55aa (d0) 2024") == 12
    assert parse_c(as_since_4_19(C_CONFLICT)) == parse_c(C_CONFLICT)


def test_c_transactions_are_numbered_by_what_brackets_them() -> None:
    ends = [r for r in parse_c(C_CONFLICT) if r.op == "TRANSACTION_END"]
    assert [(r.tx, r.args, r.error) for r in ends] == [(1, ("T",), "EAGAIN"), (2, ("T",), None)]


def test_c_values_keep_their_newlines() -> None:
    (image,) = [r for r in parse_c(C_CONFLICT) if r.path == "/local/domain/7/image"]
    assert image.args == ("two words\nand a line",)


def test_ocaml_replays_are_the_daemons_own_and_left_out() -> None:
    requests = parse_ocaml(OCAML_CONFLICT)
    assert [(r.tx, r.error) for r in requests if r.op == "TRANSACTION_START"] == [
        (1, None),
        (3, None),
    ]
    ends = [(r.tx, r.args, r.error) for r in requests if r.op == "TRANSACTION_END"]
    assert ends == [(1, ("T",), "EAGAIN"), (3, ("T",), None)]


def test_ocaml_operations_with_long_names() -> None:
    assert "RESET_WATCHES" in {r.op for r in parse_ocaml(OCAML_CONFLICT)}


@pytest.mark.parametrize("requests", REQUESTS)
def test_creation_is_the_committed_attempt(requests: list[Request]) -> None:
    body = writes(creation(requests, 7))
    assert [r.op for r in body] == ["WRITE", "WRITE", "SET_PERMS"]
    assert body[-1].args == ("n0", "r7")


@pytest.mark.parametrize("requests", REQUESTS)
def test_the_last_write_is_outside_any_transaction_and_has_its_error(
    requests: list[Request],
) -> None:
    last = writes(requests)[-1]
    assert (last.op, last.path) == ("RM", "/local/domain/7/hvmloader")
    assert (last.tx, last.error) == (None, "ENOENT")


def test_a_domain_that_was_never_made_has_no_creation() -> None:
    with pytest.raises(LookupError, match="/local/domain/8"):
        creation(parse_c(C_CONFLICT), 8)
