# SPDX-License-Identifier: LGPL-2.1-or-later
"""xenstore: the only importer of pyxs."""

from xlmt.xenstore.store import Store, Transaction, Tree, WatchEvent, socket_path

__all__ = ["Store", "Transaction", "Tree", "WatchEvent", "socket_path"]
