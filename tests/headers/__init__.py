# SPDX-License-Identifier: LGPL-2.1-or-later
"""The module built against the headers of every kernel that Debian has; see __main__.py."""
