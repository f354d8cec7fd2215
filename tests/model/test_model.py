# SPDX-License-Identifier: LGPL-2.1-or-later
"""The module's own sources in a model of the kernel: README.md.

What is here is short; longer runs, and all guards, are `make test-model`.
"""

import os
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.model.build import MODULE, Model, Sanitizer, build, build_module
from tests.model.mutants import MUTANTS, Mutant, mutated, strained

#: For each run here, a few seconds of an idle processor.
SEEDS = {Sanitizer.ASAN: 60, Sanitizer.TSAN: 20}
SECONDS = int(os.environ.get("XLMT_MODEL_SECONDS", "0"))
#: The guards that were missing once, as no run in the lab had shown. A long run has all of them.
PROVEN = ("F1: ", "F2: only ", "marks: wh", "marks: user")
KNOWN = [m for m in MUTANTS if m.seed and (SECONDS or m.name.startswith(PROVEN))]


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


def length(model: Model) -> list[str]:
    return ["-t", str(SECONDS)] if SECONDS else ["-n", str(SEEDS[model.sanitizer])]


def test_model_itself_is_sound(model: Model) -> None:
    done = run(model.command(*length(model), control=True))
    assert done.returncode == 0, done.stderr[-8000:] + done.stdout


def test_module_keeps_its_promises(model: Model) -> None:
    done = run(model.command(*length(model)))
    assert done.returncode == 0, done.stderr[-8000:] + done.stdout


def test_a_seed_is_repeated_exactly(model: Model) -> None:
    once, again = (run(model.command("-s", "7", "-v")) for _ in range(2))
    assert once.stderr == again.stderr
    assert "domain" in once.stderr


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_of_this_module(mutant: Mutant, tmp_path: Path) -> None:
    assert mutated(MODULE, mutant, tmp_path / "kernel").is_dir()


def each_of(mutants: Iterable[Mutant]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(
        ("model", "mutant"),
        [(mutant.sanitizer, mutant) for mutant in mutants],
        indirect=["model"],
        scope="session",
        ids=lambda value: value.name if isinstance(value, Mutant) else str(value),
    )


@each_of(KNOWN)
def test_a_guard_is_missed(model: Model, mutant: Mutant, tmp_path: Path) -> None:
    """The seed is one that finds it."""
    module = build_module(tmp_path, mutant.sanitizer, mutated(MODULE, mutant, tmp_path / "kernel"))
    done = run(replace(model, module=module).command("-s", str(mutant.seed), *mutant.options))
    assert done.returncode != 0
    assert mutant.says in done.stderr


@each_of(mutant for mutant in KNOWN if mutant.strain)
def test_it_is_the_guard_that_is_missed(model: Model, mutant: Mutant, tmp_path: Path) -> None:
    """With it the same run, and others, withstand the same strain."""
    module = build_module(tmp_path, mutant.sanitizer, strained(MODULE, mutant, tmp_path / "kernel"))
    for seeds in ("-s", str(mutant.seed)), ("-n", "30" if SECONDS else "3"):
        done = run(replace(model, module=module).command(*seeds, *mutant.options))
        assert done.returncode == 0, done.stderr[-8000:] + done.stdout
