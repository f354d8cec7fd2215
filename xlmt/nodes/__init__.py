# SPDX-License-Identifier: LGPL-2.1-or-later
"""The contract: the nodes as they are, as they should be, and the way from one to the other."""
