# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest: created, destroyed, and what is kept with it."""
