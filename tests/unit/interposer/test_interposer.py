# SPDX-License-Identifier: LGPL-2.1-or-later
"""The interposer's C, the files themselves, compiled against stubs of what is around them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

HERE = Path(__file__).parent
ROOT = Path(__file__).parents[3]
HOOKS = ROOT / "hooks"
GLUE = ROOT / "cdefs" / "glue.h"

STRICT = ("-std=gnu11", "-g", "-O1", "-Wall", "-Wextra", "-Werror")
UNDEFINED = ("-fsanitize=undefined", "-fno-sanitize-recover=all")
SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
SHARED = ("-shared", "-fPIC", "-Wl,--no-as-needed")
NOW, LAZY = "-Wl,-z,now", "-Wl,-z,lazy"


def _cases(source: str) -> list[tuple[str, str]]:
    names = re.findall(r"^CASE\((\w+)\)", (HERE / f"{source}.c").read_text(), re.MULTILINE)
    return [(source, name) for name in names]


CASES = [*_cases("creation_cases"), *_cases("teardown_cases")]


def _missing() -> str | None:
    if not shutil.which("gcc"):
        return "gcc"
    header = Path("/usr/include/libxl.h")
    return None if header.exists() else f"{header} (libxen-dev)"


def lacking(what: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(f"the interposer cannot be compiled: missing {what}")
    pytest.skip(f"the interposer cannot be compiled: missing {what}")


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder to build in, where there is a compiler; on CI there has to be one."""
    if lack := _missing():
        lacking(lack)
    folder = tmp_path_factory.mktemp("interposer")
    shutil.copy(GLUE, folder)  # its neighbours are no headers for a C compiler
    return folder


def compile_c(workshop: Path, output: str, *arguments: str | Path, cc: str = "gcc") -> Path:
    """Compile and link; fails with the compiler's words, warnings included."""
    target = workshop / output
    command = [cc, *STRICT, f"-I{workshop}", f"-I{HOOKS}", f"-I{HERE}", "-o", target, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return target


def run(
    program: Path, *arguments: str | Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    # The environment is exact: a sanitizer must not meet a library preloaded by somebody else.
    return subprocess.run(
        [program, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=env or {},
    )


# The compiler's own eyes


@pytest.mark.parametrize("source", ["interposer.c", "armed.c", "preload.c", "glue.h"])
def test_the_analyzer_finds_nothing(workshop: Path, source: str) -> None:
    extra = ["-Wno-missing-field-initializers"] if source == "glue.h" else []
    file = HERE / "glue_probe.c" if source == "glue.h" else HOOKS / source
    compile_c(workshop, f"{source}.o", "-fanalyzer", *extra, "-c", file)


# interposer.c: which requests the interposer makes, and when


Programs = Mapping[str, Path]


@pytest.fixture(scope="session")
def programs(workshop: Path) -> Programs:
    flags = [*SANITIZED, "-Wl,--no-as-needed", "-pthread"]
    stub = compile_c(workshop, "stub-asan.so", *flags, *SHARED, HERE / "stub_xenstore.c")
    return {
        source: compile_c(workshop, source, *flags, HERE / f"{source}.c", stub)
        for source in dict(CASES)
    }


def test_all_cases_are_run(programs: Programs) -> None:
    listed = [
        (source, name) for source in programs for name in run(programs[source]).stdout.split()
    ]
    assert listed == CASES
    assert len(CASES) > 70


@pytest.mark.parametrize(("source", "case"), CASES, ids=[name for _, name in CASES])
def test_interposer(programs: Programs, source: str, case: str) -> None:
    done = run(programs[source], case)
    assert (done.returncode, done.stderr) == (0, "")


# armed.c and preload.c: real libraries, really loaded


class Libraries:
    """The shared objects of the tests below. Their names are orders for the loader."""

    def __init__(self, workshop: Path, cc: str = "gcc") -> None:
        self._workshop = workshop
        self._cc = cc
        self.store = self._library("libxenstore.so", HERE / "stub_xenstore.c")
        sources = [HOOKS / name for name in ("interposer.c", "armed.c")]
        self.interposer = self._library("interposer.so", *sources, HOOKS / "preload.c", self.store)
        # As Debian builds it; the others are the same under the same name, elsewhere.
        self.libxl = self._libxl("now", NOW)
        self.libxl_lazy = self._libxl("lazy", LAZY)
        self.libxl_no_plt = self._libxl("noplt", NOW, "-fno-plt")
        self.libxl_other = self._libxl("other", NOW, "-DOTHER_LIBXL")
        self.extension = self._library("extension.so", *sources, self.libxl, self.store)
        self.extension_no_plt = self._library(
            "extension-noplt.so", *sources, self.libxl_no_plt, self.store
        )
        # Everything of libxenstore but the two functions that the interposer stands in front of.
        others = ["-Dxs_rm=other_rm", "-Dxs_transaction_start=other_start"]
        rest = self._library("rest.so", *others, HERE / "stub_xenstore.c")
        self.interposer_alone = self._library("interposer-alone.so", *sources, rest)
        self.libxl_alone = self._libxl("alone", NOW, store=rest)
        self.catches_rm = self._library("catches-rm.so", HERE / "other_interposer.c")
        self.catches_both = self._library(
            "catches-both.so", "-DCATCH_BOTH", HERE / "other_interposer.c", self.interposer
        )
        self.harmless_a = self._library("harmless-a.so", "-xc", "/dev/null")
        self.harmless_b = self._library("harmless-b.so", "-xc", "/dev/null")
        self.program = self._program("program")
        self.xl = self._program("xl", "-Wl,--no-as-needed", self.libxl)
        self.lazy_xl = self._program("lazy-xl", "-Wl,--no-as-needed", LAZY, self.libxl_lazy)

    def _library(self, name: str, *arguments: str | Path) -> Path:
        return compile_c(self._workshop, name, *SHARED, *arguments, cc=self._cc)

    def _libxl(self, folder: str, *arguments: str, store: Path | None = None) -> Path:
        (self._workshop / folder).mkdir()
        return self._library(
            f"{folder}/libxenlight.so.4.20", *arguments, HERE / "fake_libxl.c", store or self.store
        )

    def _program(self, name: str, *arguments: str | Path) -> Path:
        checks = UNDEFINED if self._cc == "gcc" else ()  # musl has no library for them
        source = HERE / "loader.c"
        return compile_c(self._workshop, name, *checks, source, *arguments, "-ldl", cc=self._cc)

    def order(self, template: str) -> str:
        """Return the template with the libraries' paths in place of their names in braces."""
        return template.format_map({k: str(v) for k, v in vars(self).items()})

    def load(self, program: Path, orders: Sequence[str], preload: str = "") -> list[str]:
        """The loader's answers, one a line; ld.so(8) must have had nothing to say."""
        env = {"LD_PRELOAD": self.order(preload)} if preload else {}
        done = run(program, self.store, *map(self.order, orders), env=env)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.splitlines()


@pytest.fixture(scope="session")
def libraries(workshop: Path) -> Libraries:
    return Libraries(workshop)


ARMED, BYPASSED = ["armed", "node"], ["bypassed", "no node"]


@pytest.mark.parametrize(
    ("orders", "answers"),
    [
        pytest.param(["local={extension}"], ARMED, id="extension"),
        pytest.param(["local={extension_no_plt}"], ARMED, id="extension, libxl without a PLT"),
        pytest.param(
            ["global={interposer}", "local={libxl}"], ARMED, id="interposer global, then libxl"
        ),
        pytest.param(
            ["global={interposer}", "local={libxl_no_plt}"], ARMED, id="interposer global, no PLT"
        ),
        pytest.param(["local={libxl}", "local={extension}"], BYPASSED, id="libxl first"),
        pytest.param(["global={libxl}", "local={extension}"], BYPASSED, id="libxl first, global"),
        pytest.param(
            ["local={libxl}", "global={interposer}"], BYPASSED, id="libxl first, interposer global"
        ),
        pytest.param(
            ["local={interposer}", "local={libxl}"], BYPASSED, id="interposer local, then libxl"
        ),
        pytest.param(["global={store}", "local={extension}"], BYPASSED, id="libxenstore first"),
        pytest.param(
            ["global={interposer}", "deepbind={libxl}"], BYPASSED, id="libxl with DEEPBIND"
        ),
        pytest.param(
            ["local={libxl_no_plt}", "global={interposer}"], BYPASSED, id="no PLT, libxl first"
        ),
    ],
)
def test_arming_tells_where_the_calls_go(
    libraries: Libraries, orders: list[str], answers: list[str]
) -> None:
    assert libraries.load(libraries.program, [*orders, "ask", "create"]) == answers


def test_preloaded_into_xl_it_is_armed(libraries: Libraries) -> None:
    assert libraries.load(libraries.xl, ["ask", "create"], preload="{interposer}") == ARMED


def test_preloaded_before_libxl_is_loaded_it_is_armed(libraries: Libraries) -> None:
    orders = ["ask", "local={libxl}", "ask", "create"]
    answers = libraries.load(libraries.program, orders, preload="{interposer}")
    assert answers == ["no libxl", *ARMED]


def test_preloaded_beside_the_extension_one_of_them_is_armed(libraries: Libraries) -> None:
    assert libraries.load(
        libraries.program, ["local={extension}", "ask", "create"], "{interposer}"
    ) == (ARMED)


def test_bound_lazily_it_is_armed_from_the_first_call_on(libraries: Libraries) -> None:
    answers = libraries.load(libraries.lazy_xl, ["create", "ask"], preload="{interposer}")
    assert answers == ["node", "armed"]


@pytest.mark.parametrize("other", ["{catches_rm}", "{catches_both}"])
def test_behind_another_interposer_it_is_bypassed(libraries: Libraries, other: str) -> None:
    answers = libraries.load(libraries.xl, ["ask", "create"], preload=f"{other}:{{interposer}}")
    assert answers == BYPASSED


def test_in_front_of_another_interposer_it_is_armed(libraries: Libraries) -> None:
    preload = "{interposer}:{catches_both}"
    assert libraries.load(libraries.xl, ["ask"], preload=preload) == ["armed"]


def test_without_libxl_there_is_nothing_to_arm(libraries: Libraries) -> None:
    assert libraries.load(libraries.program, ["local={interposer}", "ask"]) == ["no libxl"]


def test_a_libxl_that_does_not_call_as_we_know_it_is_unreadable(libraries: Libraries) -> None:
    orders = ["global={interposer}", "local={libxl_other}", "ask", "create"]
    assert libraries.load(libraries.program, orders) == ["unreadable", "no node"]


def test_an_interposer_with_nothing_behind_it_is_not_armed(libraries: Libraries) -> None:
    orders = ["global={interposer_alone}", "local={libxl_alone}", "ask"]
    assert libraries.load(libraries.program, orders) == ["dead end"]


@pytest.fixture(scope="session")
def musl(tmp_path_factory: pytest.TempPathFactory) -> Libraries:
    """The same libraries for another libc, as Alpine Linux has it."""
    if not shutil.which("musl-gcc"):
        lacking("musl-gcc (musl-tools)")
    folder = tmp_path_factory.mktemp("musl")
    for header in ("xenstore.h", "xenstore_lib.h", "xen/io/xs_wire.h"):
        (folder / header).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path("/usr/include") / header, folder / header)
    return Libraries(folder, cc="musl-gcc")


@pytest.mark.parametrize(
    ("orders", "answers"),
    [
        pytest.param(["local={extension}"], ARMED, id="extension"),
        pytest.param(
            ["global={interposer}", "local={libxl}"], ARMED, id="interposer global, then libxl"
        ),
        pytest.param(["local={libxl}", "local={extension}"], BYPASSED, id="libxl first"),
    ],
)
def test_on_musl_armed_means_that_a_node_comes(
    musl: Libraries, orders: list[str], answers: list[str]
) -> None:
    """There RTLD_NEXT does not see what came along with an object that is not global."""
    assert musl.load(musl.program, [*orders, "ask", "create"]) == answers


def test_on_musl_it_can_be_preloaded(musl: Libraries) -> None:
    assert musl.load(musl.xl, ["ask", "create"], preload="{interposer}") == ARMED


# preload.c: out of the grandchildren's environment


@pytest.mark.parametrize(
    ("preload", "left"),
    [
        pytest.param("{interposer}", "unset", id="alone"),
        pytest.param("{interposer}:{harmless_a}", "{harmless_a}", id="first"),
        pytest.param("{harmless_a}:{interposer}", "{harmless_a}", id="last"),
        pytest.param(
            "{harmless_a}:{interposer}:{harmless_b}",
            "{harmless_a}:{harmless_b}",
            id="in the middle",
        ),
        pytest.param(
            "{harmless_a} {interposer} {harmless_b}", "{harmless_a}:{harmless_b}", id="spaces"
        ),
        pytest.param(
            "{harmless_a}:{interposer} {harmless_b}", "{harmless_a}:{harmless_b}", id="mixed"
        ),
        pytest.param("{interposer}:{interposer}", "unset", id="twice"),
        pytest.param(
            "{interposer}:{harmless_a}:{interposer}", "{harmless_a}", id="twice, around another"
        ),
        pytest.param(" ::{interposer}:: ", "unset", id="among separators"),
        pytest.param(
            ":{harmless_a}::{interposer}  {harmless_b}:",
            "{harmless_a}:{harmless_b}",
            id="empty entries",
        ),
    ],
)
def test_in_xl_only_the_interposer_leaves_ld_preload(
    libraries: Libraries, preload: str, left: str
) -> None:
    answers = libraries.load(libraries.xl, ["env", "ask", "create"], preload=preload)
    assert answers == [libraries.order(left), *ARMED]


@pytest.mark.parametrize(
    "preload",
    ["{interposer}", "{harmless_a}:{interposer} {harmless_b}", ":{interposer}::{interposer}"],
    ids=["alone", "among others", "twice"],
)
def test_in_a_program_without_libxl_ld_preload_stays_as_it_is(
    libraries: Libraries, preload: str
) -> None:
    assert libraries.load(libraries.program, ["env"], preload=preload) == [libraries.order(preload)]


def test_without_ld_preload_the_library_does_not_make_one(libraries: Libraries) -> None:
    orders = ["local={libxl}", "global={interposer}", "env"]
    assert libraries.load(libraries.program, orders) == ["unset"]


def test_other_entries_stay_when_the_interposer_came_by_another_way(libraries: Libraries) -> None:
    orders = ["local={interposer}", "env"]
    answers = libraries.load(libraries.xl, orders, preload="{harmless_a}")
    assert answers == [libraries.order("{harmless_a}")]


# glue.h


@pytest.fixture(scope="session")
def glue_probe(workshop: Path) -> Path:
    return compile_c(
        workshop,
        "glue_probe",
        *SANITIZED,
        "-Wno-missing-field-initializers",
        HERE / "glue_probe.c",
        "-lxlutil",
        "-lxenlight",
        "-lxentoollog",
    )


def test_glue_hands_on_what_c_says(glue_probe: Path) -> None:
    done = run(glue_probe, "/dev/null", "key")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[:8] == [
        "error 2 <libxl> <no disk 7>",
        "debug -1 <> <plain>",
        "5 <line>",
        "6 begins",
        "1",  # disaster, which ends nothing
        "1 18446744073709551614 1 18446744073709551614",  # no callback, the number whole
        *("1", "1"),
    ]


@pytest.mark.parametrize(
    ("content", "value", "problem"),
    [
        ('key = "a b"', "a b", ""),
        ("key = 3", "3", ""),
        ('key = ["a"]', "(none)", ""),
        ("other = 3", "(none)", ""),
        ("key = = 3", "(none)", "syntax error"),
    ],
    ids=["text", "number", "list", "absent", "broken"],
)
def test_glue_reads_a_setting(
    glue_probe: Path, tmp_path: Path, content: str, value: str, problem: str
) -> None:
    conf = tmp_path / "xl.conf"
    conf.write_text(content + "\n")
    done = run(glue_probe, conf, "key")
    assert (done.returncode, done.stderr) == (0, "")
    said = done.stdout.splitlines()[8:]
    assert said[0] == value
    assert problem in said[1]
    assert problem or said[1] == ""
