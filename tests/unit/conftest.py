# SPDX-License-Identifier: LGPL-2.1-or-later
"""Fixtures of the unit tests."""

from tests.unit.xenstore.xsserver import serve

__all__ = ["serve"]
