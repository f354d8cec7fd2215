# SPDX-License-Identifier: LGPL-2.1-or-later
"""Why a host is stuck: what a call trace says, of this host or of another."""
