# SPDX-License-Identifier: LGPL-2.1-or-later
"""Who is to be guarded, and the file that says so."""

import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlmt import paths
from xlmt.errors import TimedOutError, UnreadableError
from xlmt.guard import kept
from xlmt.guard.settings import Settings, headline

NAMES = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1)
SETTINGS = st.builds(Settings, st.booleans(), st.frozensets(NAMES))


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the settings are kept; nobody has made any before the test."""
    path = tmp_path / "lib/xlmt/guard.json"
    monkeypatch.setattr(paths, "GUARD", str(path))
    return path


def write(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True)
    file.write_bytes(data)


# --- who ---------------------------------------------------------------------------------------


def test_named_guests_are_the_exceptions_and_no_name_means_all() -> None:
    one = Settings().switched(["web1"], on=True)
    assert (one.wants("web1"), one.wants("db1")) == (True, False)
    everyone = one.switched([], on=True)
    assert everyone == Settings(default=True)
    but_one = everyone.switched(["db1"], on=False)
    assert (but_one.wants("web1"), but_one.wants("db1")) == (True, False)
    assert but_one.switched(["db1"], on=True) == everyone
    assert but_one.switched([], on=False) == Settings()


@given(SETTINGS, st.frozensets(NAMES, min_size=1), st.booleans())
def test_a_guest_is_as_it_was_switched_last(
    before: Settings, names: frozenset[str], on: bool
) -> None:
    after = before.switched(names, on=on)
    assert all(after.wants(name) is on for name in names)
    assert all(
        after.wants(n) is before.wants(n) for n in before.exceptions - names if n not in names
    )


@pytest.mark.parametrize("default", [True, False])
def test_a_guest_that_is_migrated_here_and_its_stubdom_count_as_the_guest(default: bool) -> None:
    settings = Settings(default).switched(["web1"], on=not default)
    for name in ("web1--incoming", "web1-dm"):
        assert settings.wants(name) is not default
    assert settings.wants("web1-dm2") is default


def test_who_cannot_be_named_is_guarded_if_anybody_is() -> None:
    assert not Settings().wants(None)
    assert Settings(exceptions=frozenset({"web1"})).wants(None)
    assert Settings(True, frozenset({"web1"})).wants(None)


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (Settings(), "guard: off"),
        (Settings(True), "guard: on for all guests"),
        (Settings(True, frozenset({"b", "a"})), "guard: on for all guests but a, b"),
        (Settings(False, frozenset({"a\x1b"})), "guard: on for a\\x1b only"),
    ],
)
def test_the_headline(settings: Settings, line: str) -> None:
    assert headline(settings) == line


# --- the file ----------------------------------------------------------------------------------


def test_without_a_file_nobody_is_guarded() -> None:
    assert kept.load() == Settings()


def test_what_is_switched_is_read_again_by_anybody(file: Path) -> None:
    assert kept.switch(["web1"], on=True) == kept.load() == Settings(False, frozenset({"web1"}))
    assert file.read_bytes() == b'{"schema": 1, "default": "off", "exceptions": ["web1"]}\n'
    assert stat.S_IMODE(file.stat().st_mode) & 0o022 == 0
    assert os.listdir(file.parent) == [file.name]  # noqa: PTH208


@given(SETTINGS)
def test_all_settings_survive_the_file(settings: Settings) -> None:
    assert Settings.load(settings.dump()) == settings


@given(st.binary() | st.recursive(st.none() | st.text(), st.lists).map(repr).map(str.encode))
def test_what_is_no_setting_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any reason is one
        Settings.load(data)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "Expecting value"),
        (b"[]", "it is no JSON object"),
        (b"{}", '"default" is neither'),
        (b'{"default": ["on"]}', '"default" is neither'),
        (b'{"default": "on", "exceptions": {}}', "no list of names"),
        (b'{"default": "on", "exceptions": [""]}', "no list of names"),
        (b'{"default": "on", "exceptions": [7]}', "no list of names"),
    ],
)
def test_a_bad_file_is_named_with_what_is_wrong_and_the_way_out(
    file: Path, data: bytes, why: str
) -> None:
    write(file, data)
    with pytest.raises(UnreadableError, match=rf"{file} is not valid: .*{why}.*: xlmt guard on"):
        kept.load()
    with pytest.raises(UnreadableError):
        kept.switch(["web1"], on=True)  # what the others were is not known
    assert file.read_bytes() == data
    assert kept.switch([], on=True) == kept.load() == Settings(True)


def test_what_is_no_file_is_named(file: Path) -> None:
    file.mkdir(parents=True)
    with pytest.raises(UnreadableError, match=f"cannot read {file}: is a directory"):
        kept.load()


def test_a_change_that_fails_leaves_the_file_as_it_was(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.switch([], on=True)

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        kept.switch([], on=False)
    assert kept.load() == Settings(True)


def test_changes_at_the_same_time_are_all_there() -> None:
    names = [f"g{n}" for n in range(20)]
    switching = [
        threading.Thread(target=kept.switch, args=([n],), kwargs={"on": True}) for n in names
    ]
    for thread in switching:
        thread.start()
    for thread in switching:
        thread.join(30)
    assert kept.load() == Settings(False, frozenset(names))


def test_a_change_does_not_wait_for_ever(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.switch([], on=True)
    monkeypatch.setattr(kept, "_LOCK_S", 0.1)
    with kept._locked(file.parent), pytest.raises(TimedOutError, match=str(file.parent)):
        kept.switch([], on=False)
