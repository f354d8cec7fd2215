# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the build has decided: setup.py writes these constants anew into what it builds.

As they stand here they are those of a checkout, of which pip has made an editable install.
A path that is relative begins in the folder of this file.
"""

#: Who installs and updates xlmt here: "pip", or "apt".
INSTALLED_BY = "pip"
#: The interposer as a library, which is preloaded into other programs.
PRELOAD = "libxlmt-preload.so"
#: The folder that has what is for other programs, by its names in the sources: hooks/ above all.
SHARE = ".."
#: The folder of under-hook, by the name that units and scripts have it by.
LIBEXEC = "/usr/local/lib/xlmt"


def packaged(package: str) -> str:
    """Return how to get a program that a package of Debian has."""
    if INSTALLED_BY == "apt":
        return f"apt install {package}"
    return f"install it; Debian has it in {package}"
