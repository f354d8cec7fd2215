# SPDX-License-Identifier: LGPL-2.1-or-later
"""xlmt: keeps Xen's xenwatch-multithreading contract for the toolstack side."""

__version__ = "0.1.0"
