# SPDX-License-Identifier: LGPL-2.1-or-later
"""Set a host up: what of xlmt fits it is installed and enabled, and can be undone."""
