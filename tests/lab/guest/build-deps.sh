#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Inside dom0's root: two venvs from /wheels, offline. What xlmt runs in holds no build tools, so
# that its start-up is what a user's is.
set -eu
python3 -m venv /opt/build
/opt/build/bin/pip install -q -r /wheels/build.txt
python3 -m venv --without-pip /opt/xlmt
/opt/build/bin/pip --python /opt/xlmt/bin/python install -q -r /wheels/needed.txt
