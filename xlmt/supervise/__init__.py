# SPDX-License-Identifier: LGPL-2.1-or-later
"""What looks after the host for as long as it is up."""
