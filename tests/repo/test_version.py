# SPDX-License-Identifier: LGPL-2.1-or-later
"""xlmt's version is in xlmt/__init__.py, the module's in kernel/; whatever names one follows."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

from tests.repo.tree import files, read
from xlmt import __version__


def module_version() -> str:
    defined = r'^#define\s+MTW_VERSION\s+"(.+)"$'
    headers = (read(path) for path in files(".h") if path.parts[0] == "kernel")
    (found,) = (match for text in headers for match in re.findall(defined, text, re.MULTILINE))
    return str(found)


def test_what_is_installed_is_this_version() -> None:
    assert version("xlmt") == __version__
    project = tomllib.loads(read(Path("pyproject.toml")))["project"]
    assert "version" in project["dynamic"]
    assert "version" not in project


def test_the_changelog_begins_with_this_version() -> None:
    newest = re.search(r"^## \[(.+?)\]", read(Path("CHANGELOG.md")), re.MULTILINE)
    assert newest
    assert newest[1] == __version__


def test_debians_package_is_of_this_version_and_its_changelog_of_its_form() -> None:
    newest = re.match(r"xlmt \((.+?)\) \w+; urgency=\w+\n", read(Path("debian/changelog")))
    assert newest
    assert newest[1] == __version__


def test_dkms_builds_the_module_under_the_module_s_version() -> None:
    assert f'PACKAGE_VERSION="{module_version()}"\n' in read(Path("kernel/dkms.conf"))


def test_documents_name_the_module_s_version() -> None:
    named = re.compile(r"xen_mtwatch[ /-](\d+(?:\.\d+)+)")
    documents = [path for path in files(".md", ".4", ".8") if path.name != "CHANGELOG.md"]
    found = {number for path in documents for number in named.findall(read(path))}
    assert found == {module_version()}
