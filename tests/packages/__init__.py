# SPDX-License-Identifier: LGPL-2.1-or-later
"""Debian's packages, from their sources to a host that has never had them.

`make packages` builds them in a minimal root of each release that has what debian/control asks for,
twice, and compares the bytes. `make test-packages` then installs them with apt, from a repository
made of them, into a second minimal root, and looks that nothing is left when they are purged.

build.sh  what happens in the first root
check.sh  what happens in the second
"""
