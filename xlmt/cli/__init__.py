# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command line: parse, call, print, exit. Nothing else in xlmt prints or exits."""
