# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether the supervisor is to load the module by itself. Pure."""

from collections.abc import Mapping

from xlmt.errors import UsageError

RESCUE_SETTING = "XLMT_RESCUE"
#: As the command line takes them.
_NO, _YES = {"", "0", "no", "off", "false"}, {"1", "yes", "on", "true"}


def rescue_from(settings: Mapping[str, str]) -> bool:
    """Return it from an environment. Raises UsageError."""
    word = settings.get(RESCUE_SETTING, "").lower()
    if word not in _NO | _YES:
        raise UsageError(f"{RESCUE_SETTING}={word}: wanted is 1 or 0")
    return word in _YES
