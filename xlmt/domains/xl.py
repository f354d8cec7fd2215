# SPDX-License-Identifier: LGPL-2.1-or-later
"""The real xl: where it is, how it reads a configuration, how to run it with the interposer."""

import json
import logging
import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from xlmt import built, files, paths
from xlmt.errors import NoXenError, TimedOutError, UsageError, XlmtError

_log = logging.getLogger("xlmt")

_PARSE_TIMEOUT_S = 60.0
#: Another folder in tests.
_ROOT = Path("/")
#: Where Xen's own build puts it, and where distributions do; PATH may lack both, as cron's does.
_PLACES = ("usr/local/sbin/xl", "usr/sbin/xl")
_STDIN = {"/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"}
_VERSION = Path("/sys/hypervisor/version")


def find() -> str:
    """Return the path of the real xl, behind whatever shell script is put in its way.

    Debian's /usr/sbin/xl is one, which runs /usr/lib/xen-<version of the running Xen>/bin/xl, and
    hooks/xl/xl another.
    Raises XlmtError when there is none.
    """
    candidate = files.program("xl")
    for place in (*([Path(candidate)] if candidate else []), *(_ROOT / place for place in _PLACES)):
        if _is_program(place):
            return str(place)
    running = _running_version()
    found = sorted((_ROOT / "usr/lib").glob(f"xen-{running or '*'}/bin/xl"))
    if not found:
        raise XlmtError(f"there is no xl here: {built.packaged('xen-utils')}")
    if len(found) > 1:
        raise XlmtError(
            "cannot tell which Xen is running, and there is more than one xl: "
            + ", ".join(map(str, found))
        )
    return str(found[0])


def _is_program(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) == b"\x7fELF"
    except OSError:
        return False


def _running_version() -> str | None:
    try:
        return ".".join((_VERSION / part).read_text().strip() for part in ("major", "minor"))
    except OSError:
        return None


def parse(
    config: str | None, overrides: Sequence[str] = (), options: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the configuration that xl makes of a file and of key=value overrides.

    The result has the shape of libxl's JSON of a libxl_domain_config. Only xl can read xl.cfg:
    its parser is in no library.

    Raises UsageError with xl's own words, file and line, when xl does not accept it.
    """
    command = [find(), "create", "-n", *options, *_arguments(config, overrides)]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="surrogateescape",
            timeout=_PARSE_TIMEOUT_S,
            check=False,
            stdin=None if config in _STDIN else subprocess.DEVNULL,
            pass_fds=_descriptors(config),
        )
    except subprocess.TimeoutExpired:
        raise TimedOutError(
            f"xl did not parse {config} within {_PARSE_TIMEOUT_S:.0f} s; is xenstored stuck?"
        ) from None
    if done.returncode:
        raise _refusal(config, done.stderr)
    configuration = _configuration(done.stdout)  # refused first: 4.20's xl warns of sxp, too
    for line in _said(done.stderr):
        _log.warning("xl: %s", line)
    _refuse_odd_bytes(configuration, config, overrides)
    return configuration


def _descriptors(config: str | None) -> tuple[int, ...]:
    """Return the descriptor that a file is the name of: `xlmt create /dev/fd/3 3< FILE`."""
    found = re.fullmatch(r"(?:/dev|/proc/self)/fd/([0-9]{1,4})", config or "")
    return (int(found[1]),) if found and int(found[1]) > 2 else ()


def _refuse_odd_bytes(
    configuration: Mapping[str, Any], config: str | None, overrides: Sequence[str]
) -> None:
    """Raise UsageError for bytes that are no UTF-8, by file and line.

    They come to us as lone surrogates, but libxl takes its JSON from nobody with such bytes.
    """
    if _is_utf8(json.dumps(configuration, ensure_ascii=False)):
        return
    reason = "is no UTF-8, which libxl's JSON cannot hold"
    for override in overrides:
        if not _is_utf8(override):
            raise UsageError(f"{override}: this {reason}")
    with suppress(OSError):
        lines = Path(config or "").read_bytes().split(b"\n")
        for number, line in enumerate(lines, 1):
            if not _is_utf8(line.partition(b"#")[0].decode("utf-8", "surrogateescape")):
                shown = line.strip().decode("utf-8", "surrogateescape")
                raise UsageError(f"{config}:{number}: this {reason}: {shown}")
    raise UsageError(f"{config}: something in it {reason}")


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _arguments(config: str | None, overrides: Sequence[str]) -> list[str]:
    return [*(["-f", config] if config is not None else []), *overrides]


def _configuration(output: str) -> dict[str, Any]:
    if output.lstrip().startswith("("):
        raise XlmtError(
            'xl prints configurations as sxp, which xlmt cannot read: set output_format="json" '
            "in /etc/xen/xl.conf"
        )
    try:
        configuration = json.loads(output)
    except ValueError as e:
        raise XlmtError(f"xl printed a configuration that is no JSON: {e}") from None
    if not isinstance(configuration, dict):
        raise XlmtError("xl printed a configuration that is no JSON object")
    return configuration


def _said(stderr: str) -> list[str]:
    lines = [line.strip() for line in stderr.splitlines()]
    return [line for line in lines if line and not line.startswith("Parsing config from")]


def _refusal(config: str | None, stderr: str) -> XlmtError:
    said = _said(stderr)
    if any(re.search(r"cannot init xl context|libxl_ctx_alloc|xencall", line) for line in said):
        return NoXenError(f"no Xen here: {said[0]}")
    if any(line.startswith(f"{paths.XL_CONF}:") for line in said):
        return XlmtError(f"xl cannot read its own settings: {'; '.join(said)}")
    if len(said) > 1 and said[-1].startswith("Failed to parse config"):
        said.pop()  # what it failed at is in the lines before
    return UsageError(f"xl does not accept {config}: " + ("; ".join(said) or "no reason given"))


def dry_run(config: str | None, overrides: Sequence[str] = (), options: Sequence[str] = ()) -> int:
    """Run `xl create -n` as it is, output and all; return its exit status."""
    status = subprocess.call([find(), "create", "-n", *options, *_arguments(config, overrides)])
    return status if status >= 0 else 128 - status


def preload_library() -> Path:
    """Return the path of the interposer as a library. Raises XlmtError when it is not installed."""
    path = Path(built.__file__).parent / built.PRELOAD
    if not path.exists():
        raise XlmtError(f"{path} is missing: reinstall xlmt")
    return path


def with_interposer(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment in which a libxl program has the interposer."""
    others = environ.get("LD_PRELOAD", "")
    library = str(preload_library())
    if set(library) & {" ", ":"}:  # ld.so(8) would take it for two, and only warn
        raise XlmtError(f"the path {library} cannot be preloaded: install xlmt elsewhere")
    return {**environ, "LD_PRELOAD": f"{library}:{others}" if others else library}


def become(argv: Sequence[str]) -> None:
    """Replace this process by a program with the interposer. Raises XlmtError where it cannot."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, other programs do not
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(argv[0], list(argv), with_interposer(os.environ))  # noqa: S606
    except OSError as e:
        raise XlmtError(f"cannot run {argv[0]}: {e.strerror}") from None
