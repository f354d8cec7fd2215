# SPDX-License-Identifier: LGPL-2.1-or-later
"""Files that somebody else may have got to first: plain ones are read, others are named."""

import errno
import os
import stat

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


def read_plain(path: str | os.PathLike[str]) -> bytes:
    """Return a file's contents, never waiting for them.

    Raises OSError, also for what is no plain file or too long to be ours.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as e:
        if e.errno == errno.ELOOP:
            raise OSError(e.errno, "is a symbolic link", os.fspath(path)) from None
        raise
    try:
        found = os.fstat(fd)
        if kind := what_it_is(found):
            raise OSError(errno.EINVAL, f"is {kind}", os.fspath(path))
        if found.st_size > _LONGEST:
            raise OSError(errno.EFBIG, "is too long", os.fspath(path))
        data = b""
        while piece := os.read(fd, 1 << 20):
            data += piece
        return data
    finally:
        os.close(fd)


def what_it_is(found: os.stat_result) -> str | None:
    """Return what a file is in words, None when it is a plain one."""
    return None if stat.S_ISREG(found.st_mode) else _KINDS.get(stat.S_IFMT(found.st_mode), "odd")
