# SPDX-License-Identifier: LGPL-2.1-or-later
"""The tiers without a VM, run where nothing is installed but what the project itself installs.

A developer's machine has more than a user's, and that hides missing steps. So `make test` makes a
minimal root of each Debian release, puts the checkout and nothing else of this machine into it, and
has make install what it needs there.

root     makes a root, runs a command in it
enter.sh the first process in there
summary  what several runs of pytest say together
"""
