# SPDX-License-Identifier: LGPL-2.1-or-later
"""Fixtures of the unit tests."""

from hypothesis import HealthCheck, settings

from tests.unit.xenstore.xsserver import serve

__all__ = ["serve"]

# In strategies the names of arguments are those that Debian 12's hypothesis, 6.67, has as well.
# A busy machine may stop for longer than the 200 ms that are usual; what hangs meets pytest's own.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")
