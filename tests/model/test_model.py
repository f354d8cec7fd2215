# SPDX-License-Identifier: LGPL-2.1-or-later
"""The module's own sources in a model of the kernel: README.md. For longer: make test-model."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.model.build import MODULE, Model, Sanitizer, build
from tests.model.mutants import MUTANTS, Mutant, mutated

#: For each run here, about ten seconds of an idle processor.
SEEDS = 150
SECONDS = int(os.environ.get("XLMT_MODEL_SECONDS", "0"))


@pytest.fixture(scope="session")
def compiler() -> None:
    if shutil.which("gcc"):
        return
    if os.environ.get("CI") == "true":
        pytest.fail("the model cannot be compiled: missing gcc")
    pytest.skip("the model cannot be compiled: missing gcc")


@pytest.fixture(scope="session", params=list(Sanitizer))
def model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, compiler: None
) -> Model:
    return build(tmp_path_factory.mktemp("model"), request.param)


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    # The environment is exact: a sanitizer must not meet options or libraries of somebody else.
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={}, timeout=SECONDS + 500
    )


def length() -> list[str]:
    return ["-t", str(SECONDS)] if SECONDS else ["-n", str(SEEDS)]


def test_model_itself_is_sound(model: Model) -> None:
    done = run(model.command(*length(), control=True))
    assert done.returncode == 0, done.stderr[-8000:] + done.stdout


def test_module_keeps_its_promises(model: Model) -> None:
    done = run(model.command(*length()))
    assert done.returncode == 0, done.stderr[-8000:] + done.stdout


def test_a_seed_is_repeated_exactly(model: Model) -> None:
    once, again = (run(model.command("-s", "7", "-v")) for _ in range(2))
    assert once.stderr == again.stderr
    assert "domain" in once.stderr


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_of_this_module(mutant: Mutant, tmp_path: Path) -> None:
    assert mutated(MODULE, mutant, tmp_path / "kernel").is_dir()


@pytest.mark.parametrize("mutant", [m for m in MUTANTS if m.seed], ids=lambda mutant: mutant.name)
def test_a_guard_is_missed(mutant: Mutant, tmp_path: Path, compiler: None) -> None:
    """The seed is one that finds it; the others of MUTANTS take longer: make test-model."""
    model = build(tmp_path, mutant.sanitizer, mutated(MODULE, mutant, tmp_path / "kernel"))
    done = run(model.command("-s", str(mutant.seed)))
    assert done.returncode != 0
    assert mutant.says in done.stderr
