# SPDX-License-Identifier: LGPL-2.1-or-later
"""The guard: a packet socket on a guest's vif, for which the kernel copies the guest's packets."""
