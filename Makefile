# SPDX-License-Identifier: LGPL-2.1-or-later
# make demo    see it work: a real Xen host in QEMU, a guest created and destroyed
# make lab     a shell on that host, with xlmt installed
# make test    what can be tested here in half an hour; what CI runs
# make test-lab           all tests in the lab, those that are too long for that included
# make test-debug-kernel  the kernel half on a kernel that checks itself
# The first run installs what it needs: Debian packages by apt, Python's into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# xen-utils brings xl and both xenstored for the stack tier, seabios what an HVM guest there starts
# with; nothing here installs a hypervisor, or QEMU, of which the lab has its own.
PACKAGES := \
	gcc libc6-dev make python3-dev python3-venv \
	libxen-dev xen-utils-4.17 xen-utils-common xenstore-utils seabios \
	git mandoc mmdebstrap perl shellcheck systemd
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
SOURCES := pyproject.toml setup.py $(wildcard cdefs/* hooks/*.[ch])

.PHONY: all deps test test-repo test-unit test-stack test-lab test-debug-kernel demo lab bench clean

all: $(VENV)/.installed

# Only what is missing is installed, so that this asks for no password and no network later on.
deps:
	@missing="$$(for p in $(PACKAGES); do dpkg-query -Wf '$${Status}' "$$p" 2>/dev/null | grep -q 'ok installed' || echo "$$p"; done)"; \
	if [ -n "$$missing" ]; then \
		echo "Installing" $$missing; \
		$(SUDO) apt-get update -q && \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive \
			apt-get install -qy --no-install-recommends $$missing; \
	fi

$(VENV)/.installed: $(SOURCES) | deps
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[test]'
	@touch $@

# Most of the time the stack tier waits, for deadlines too: so two tests at once, or one beside the
# lab, which is one machine after the other. Its hosts know nothing of each other.
# Longer: XLMT_STORM_STEPS=600 XLMT_DEATHS=200 XLMT_XENSTOREDS=20 XLMT_STRIDE=1 XLMT_LAB_ROUNDS=20
# XLMT_LAB_CYCLES=200 XLMT_LAB_STORM=600.
TWO := -n 2 --dist worksteal
BESIDE := .cache/beside-the-lab.log

# A shell has what it starts in the background ignore ^C, and so would all that the tests start.
test: all
	@mkdir -p $(dir $(BESIDE)); \
	env --default-signal=INT,QUIT \
		$(BIN)/pytest tests/repo tests/unit tests/stack > $(BESIDE) 2>&1 & beside=$$!; \
	status=0; \
	$(BIN)/pytest -m 'not long' tests/lab || status=$$?; \
	echo "Beside the lab:"; \
	wait $$beside || status=$$?; \
	cat $(BESIDE); \
	exit $$status

test-repo test-unit test-stack: test-%: all
	$(BIN)/pytest $(TWO) tests/$*

test-lab: all
	$(BIN)/pytest tests/lab

# The kernel half on a dom0 kernel that checks itself. The first run builds that kernel, which takes
# up to half an hour; the tests take as long. Not for CI.
test-debug-kernel: all
	$(BIN)/pytest --timeout 3600 tests/debug_kernel

demo: all
	$(BIN)/python -m tests.lab demo

lab: all
	$(BIN)/python -m tests.lab shell

bench: all
	$(BIN)/python -m bench.stack
	$(BIN)/python -m bench.reconcile
	$(BIN)/python -m bench.supervise
	$(BIN)/python -m bench.lab
	$(BIN)/python -m bench.kernel

clean:
	rm -rf $(VENV) build dist *.egg-info xlmt/*.so xlmt/_libxl.c
