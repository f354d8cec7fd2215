# SPDX-License-Identifier: LGPL-2.1-or-later
# make demo    see it work: a real Xen host in QEMU, a guest created and destroyed
# make lab     a shell on such a host, booted by systemd, with Debian's packages and ours
# make bare    the same on a host without systemd, which is up in half a minute
# make test    what can be tested here in under an hour; what CI runs
# make test-lab           all tests in the lab, those that are too long for that included
# make test-model         the kernel half in a model of the kernel, for ten minutes or longer
# make test-headers       the kernel half, built for every kernel of Debian, amd64's and arm64's
# make test-debug-kernel  the kernel half on a kernel that checks itself
# make packages           Debian's packages, a source archive and a wheel, into packages/
# make test-packages      the same, installed, tried and purged in a fresh root of each release
# RELEASE=12 (or bookworm) has the lab be Debian 12, in place of 13: make demo RELEASE=12.
# These install only $(HOST) on this machine, by apt, and pytest into .lab.
# make all, test-repo, test-unit, test-stack, bench  are for development on this machine itself:
# they install $(PACKAGES) by apt, and Python's packages into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LAB := .lab
# What the lab and the roots of `make test` are made with; all else is installed inside these.
HOST := git mmdebstrap perl python3-venv
# What xlmt is built and tested with. xen-utils brings xl and both xenstored for the stack tier,
# seabios what an HVM guest there starts with; gcc has the sanitizers for the model tier. Nothing here
# installs a hypervisor, or QEMU, of which the lab has its own.
PACKAGES := \
	gcc libc6-dev make python3-dev python3-venv iproute2 \
	libxen-dev xen-utils xen-utils-common xenstore-utils seabios \
	git mandoc mmdebstrap musl-tools shellcheck systemd zsh fish
RELEASES := trixie bookworm
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
SOURCES := pyproject.toml setup.py $(wildcard cdefs/* hooks/*.[ch])

.PHONY: all deps host test test-tiers test-repo test-unit test-stack test-lab test-model test-headers test-debug-kernel \
	packages test-packages demo lab bare bench clean

all: $(VENV)/.installed

# Only what is missing is installed, so that this asks for no password and no network later on. A
# name may be one that a package provides, as xen-utils-4.20 does xen-utils.
deps: NEEDED = $(PACKAGES)
host: NEEDED = $(HOST)
deps host:
	@command -v apt-get > /dev/null || { echo "Not Debian: this needs $(NEEDED), by your own hand."; exit 0; }; \
	there="$$(dpkg-query -Wf '$${Status} $${Package}, $${Provides},\n' | sed -n 's/^install ok installed / /p')"; \
	missing="$$(for p in $(NEEDED); do case "$$there" in *" $$p,"* | *" $$p ("*) ;; *) echo "$$p" ;; esac; done)"; \
	test -n "$$missing" || exit 0; \
	echo "Installing" $$missing; \
	{ $(SUDO) apt-get update -q && \
	  $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $$missing; \
	} > .apt.log 2>&1 || { cat .apt.log; exit 1; }

$(VENV)/.installed: $(SOURCES) | deps
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -qq --editable '.[test]'
	@touch $@

$(LAB)/.installed: | host
	@$(PYTHON) -m venv $(LAB)
	@$(LAB)/bin/pip install -qq 'pytest>=8.0' 'pytest-timeout>=2.3'
	@touch $@

# Fresh roots of the releases, in which make installs all that `test-tiers` needs, and the lab.
test: $(LAB)/.installed
	$(LAB)/bin/python -m tests.pristine test $(RELEASES)

# Most of the time the stack tier waits, for deadlines too: so two tests at once. Its hosts know
# nothing of each other.
# Longer: XLMT_STORM_STEPS=600 XLMT_DEATHS=200 XLMT_XENSTOREDS=20 XLMT_STRIDE=1 XLMT_LAB_ROUNDS=20
# XLMT_LAB_CYCLES=200 XLMT_LAB_STORM=600 XLMT_CREATIONS=600 XLMT_GUEST_STEPS=20000
# XLMT_LAB_DOCTOR_S=1800 XLMT_DOCTOR_S=1800.
TWO := -n 2 --dist worksteal

test-tiers: all
	$(BIN)/pytest $(TWO) $(PYTEST) tests/repo tests/unit tests/model tests/stack

test-repo test-unit test-stack: test-%: all
	$(BIN)/pytest $(TWO) tests/$*

test-lab: $(LAB)/.installed
	$(LAB)/bin/pytest tests/lab

# The module in a model of the kernel, with chance and sanitizers: tests/model/README.md.
XLMT_MODEL_SECONDS ?= 600
test-model: all
	$(BIN)/python -m tests.model $(XLMT_MODEL_SECONDS)

# The module against the headers of each release's kernel and of the newest in its backports.
test-headers: $(LAB)/.installed
	$(LAB)/bin/python -m tests.headers $(RELEASES)

# Debian's packages, built twice in a root that has what debian/control asks for, and tried in another.
packages: $(LAB)/.installed
	$(LAB)/bin/python -m tests.packages build $(RELEASES)

test-packages: $(LAB)/.installed
	$(LAB)/bin/python -m tests.packages test $(RELEASES)

# The kernel half on a dom0 kernel that checks itself. The first run builds that kernel, which takes
# up to half an hour; the tests take as long. Not for CI.
test-debug-kernel: $(LAB)/.installed
	$(LAB)/bin/pytest --timeout 3600 tests/debug_kernel

# Which tests run on which release is said in tests/lab/hosts.py; this is for those on the usual one.
demo lab bare bench test-lab: export XLMT_LAB_RELEASE := $(or $(RELEASE),$(XLMT_LAB_RELEASE))

demo: $(LAB)/.installed
	@$(LAB)/bin/python -m tests.lab demo

lab: $(LAB)/.installed
	@$(LAB)/bin/python -m tests.lab shell

bare: $(LAB)/.installed
	@$(LAB)/bin/python -m tests.lab bare

bench: all
	$(BIN)/python -m bench.startup
	$(BIN)/python -m bench.stack
	$(BIN)/python -m bench.reconcile
	$(BIN)/python -m bench.supervise
	$(BIN)/python -m bench.events
	$(BIN)/python -m bench.lab
	$(BIN)/python -m bench.kernel
	$(BIN)/python -m bench.guard
	$(BIN)/python -m bench.flap

clean:
	rm -rf $(VENV) $(LAB) .apt.log build dist packages *.egg-info xlmt/*.so xlmt/libxl/*.so xlmt/libxl/_libxl.c
