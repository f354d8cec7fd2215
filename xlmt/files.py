# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files that somebody else may have got to first: plain ones are read, others are named.

And programs, which are never looked for where we happen to be.
"""

import errno
import os
import shutil
import stat

#: For who has them not in PATH, such as cron.
_SBIN = ("/usr/sbin", "/sbin")
#: No record or job is as long.
_LONGEST = 16 << 20
_KINDS = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class NotPlainError(OSError):
    """There is something else than a plain file, or one too long to be ours."""


def program(name: str) -> str | None:
    """Return where a program is, by PATH or where administrators have theirs; None if nowhere.

    An empty element of PATH means the folder that we happen to be in, as does a relative one.
    """
    folders = os.environ.get("PATH", "").split(":")
    chosen = [folder for folder in folders if folder.startswith("/")]
    return shutil.which(name, path=":".join([*chosen, *_SBIN]))


def read_plain(path: str | os.PathLike[str]) -> bytes:
    """Return a file's contents, never waiting for them.

    Raises NotPlainError; OSError, which may be over when it is tried again.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as e:
        if e.errno == errno.ELOOP:
            raise NotPlainError(e.errno, "is a symbolic link", os.fspath(path)) from None
        if e.errno == errno.ENXIO:
            raise NotPlainError(e.errno, "is a socket", os.fspath(path)) from None
        raise
    try:
        found = os.fstat(fd)
        if kind := what_it_is(found):
            raise NotPlainError(errno.EINVAL, f"is {kind}", os.fspath(path))
        if found.st_size > _LONGEST:
            raise NotPlainError(errno.EFBIG, "is too long", os.fspath(path))
        data = b""
        while piece := os.read(fd, 1 << 20):
            data += piece
        return data
    finally:
        os.close(fd)


def write_whole(path: str, data: bytes) -> None:
    """Have the file be this, or as it was before, whatever happens meanwhile. Raises OSError."""
    temporary = f"{path}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    with os.fdopen(os.open(temporary, flags, 0o644), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)  # noqa: PTH105
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # noqa: PTH120
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def what_it_is(found: os.stat_result) -> str | None:
    """Return what a file is in words, None when it is a plain one."""
    return None if stat.S_ISREG(found.st_mode) else _KINDS.get(stat.S_IFMT(found.st_mode), "odd")
