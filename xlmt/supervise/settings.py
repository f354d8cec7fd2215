# SPDX-License-Identifier: LGPL-2.1-or-later
"""Whether the supervisor is to load the module by itself. Pure."""

from collections.abc import Mapping

from xlmt.errors import UsageError

RESCUE_SETTING = "XLMT_RESCUE"
_WORDS = {"": False, "0": False, "no": False, "off": False, "1": True, "yes": True, "on": True}


def rescue_from(settings: Mapping[str, str]) -> bool:
    """Return it from an environment. Raises UsageError."""
    word = settings.get(RESCUE_SETTING, "").lower()
    if word not in _WORDS:
        raise UsageError(f"{RESCUE_SETTING}={word}: wanted is 1 or 0")
    return _WORDS[word]
