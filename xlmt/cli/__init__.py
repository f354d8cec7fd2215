# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command line: parse, call, print, exit. Nothing else in xlmt prints or exits."""

import gc

# Importing makes much and drops nothing: looking for garbage meanwhile, after every 700 objects,
# is an eighth of a short command. Before Typer comes.
gc.set_threshold(50_000)
