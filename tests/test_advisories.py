"""The check of the locked dependencies: ranges, exceptions, licences, and the real lock files."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import shutil
import subprocess
import sys

import pytest

from real_worker import ROOT

if sys.version_info < (3, 11):
    pytest.skip("the script needs Python 3.11", allow_module_level=True)

import tomllib

SCRIPT = ROOT / ".ci" / "check-advisories"
LOADER = importlib.machinery.SourceFileLoader("check_advisories", str(SCRIPT))
check = importlib.util.module_from_spec(importlib.util.spec_from_loader("check_advisories", LOADER))
sys.modules["check_advisories"] = check
_writes = sys.dont_write_bytecode
sys.dont_write_bytecode = True  # no __pycache__ beside the script
LOADER.exec_module(check)
sys.dont_write_bytecode = _writes

REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"
DENY = tomllib.loads((ROOT / "deny.toml").read_text(encoding="utf-8"))


def advisory(patched: str = "[]", unaffected: str = "[]", more: str = "") -> object:
    text = (
        f'```toml\n[advisory]\nid = "RUSTSEC-2000-0001"\npackage = "sample"\n{more}\n'
        f"[versions]\npatched = {patched}\nunaffected = {unaffected}\n```\n\n# It breaks\n\nMore."
    )
    return check.Advisory.parse(text, "sample.md")


def package(version: str, name: str = "sample", source: str | None = REGISTRY, **more) -> object:
    return check.Package(name, version, source, **more)


@pytest.mark.parametrize(
    ("requirement", "inside", "outside"),
    [
        (">= 1.2.3", "1.2.3 1.2.4 2.0.0 1.2.3+build", "1.2.2 0.9.9 1.2.3-rc.1 1.3.0-rc.1"),
        (">=1.2", "1.2.0 1.10.0", "1.1.9"),
        ("> 1.2.3", "1.2.4", "1.2.3"),
        ("> 1.2", "1.3.0", "1.2.0 1.2.9"),
        ("< 0.12", "0.11.99 0.9.0", "0.12.0 0.12.1 0.12.0-alpha"),
        ("<= 3.1.0", "3.1.0 3.0.9", "3.1.1"),
        ("<= 3.1", "3.1.9", "3.2.0"),
        ("=0.2.1", "0.2.1", "0.2.0 0.2.2 0.2.1-rc.1"),
        ("= 0.2", "0.2.0 0.2.9", "0.3.0"),
        ("^1.2.3", "1.2.3 1.9.0", "1.2.2 2.0.0"),
        ("^ 0.3.1", "0.3.1 0.3.9", "0.3.0 0.4.0"),
        ("^0.0.3", "0.0.3", "0.0.4 0.0.2"),
        ("^0.0", "0.0.0 0.0.9", "0.1.0"),
        ("^0", "0.0.1 0.9.0", "1.0.0"),
        ("^1", "1.0.0 1.9.9", "2.0.0 0.9.9"),
        ("1.2", "1.2.0 1.3.0", "2.0.0 1.1.0"),
        ("~1.2.3", "1.2.3 1.2.9", "1.3.0 1.2.2"),
        ("~1", "1.0.0 1.9.0", "2.0.0"),
        ("1.2.*", "1.2.0 1.2.9", "1.1.0 1.3.0"),
        ("1.*", "1.0.0 1.9.0", "0.9.0 2.0.0"),
        ("*", "0.0.0 9.9.9", "1.0.0-rc.1"),
        (">= 1.8.4, < 1.9.0", "1.8.4 1.8.99", "1.8.3 1.9.0"),
        (
            ">= 0.103.12, < 0.104.0-alpha.1",
            "0.103.12 0.103.99",
            "0.103.11 0.104.0-alpha.1 0.104.0-alpha.2 0.104.0",
        ),
        (
            ">= 0.104.0-alpha.6",
            "0.104.0-alpha.6 0.104.0-alpha.10 0.104.0-alpha.6.1 0.104.0-beta 0.104.0 1.0.0",
            "0.104.0-alpha.5 0.104.0-alpha 0.104.0-9 0.103.9 0.105.0-alpha.7",
        ),
    ],
)
def test_ranges_contain_what_cargo_says(requirement, inside, outside):
    versions = [check.Version.parse(text) for text in f"{inside} {outside}".split()]
    found = [check.matches(requirement, version) for version in versions]
    assert found == [True] * len(inside.split()) + [False] * len(outside.split())


@pytest.mark.parametrize("requirement", ["", ">> 1", "one", ">= 1.2.3.4", ","])
def test_ranges_that_are_none_are_refused(requirement):
    with pytest.raises(check.Unreadable):
        check.matches(requirement, check.Version((1, 0, 0)))


def test_an_affected_package_is_one_line_that_names_it_and_the_cure():
    found = advisory('[">= 1.5.0"]', '["< 1.2.0"]')
    packages = [package(version) for version in ("1.1.9", "1.2.0", "1.4.9", "1.5.0")]
    lines = list(check.check_advisories(packages, [found], []))
    assert len(lines) == 2
    assert lines[0].startswith("sample 1.2.0 is affected by RUSTSEC-2000-0001 (It breaks)")
    assert "safe: >= 1.5.0; < 1.2.0" in lines[0]
    assert lines[1].startswith("sample 1.4.9 ")


@pytest.mark.parametrize(
    ("packages", "more"),
    [
        ([package("1.0.0")], 'withdrawn = "2020-01-01"'),
        ([package("1.0.0", name="another")], ""),
        ([package("1.0.0", source=None)], ""),
    ],
)
def test_withdrawn_advisories_and_other_packages_are_no_problem(packages, more):
    assert list(check.check_advisories(packages, [advisory(more=more)], [])) == []


@pytest.mark.parametrize(
    ("ignored", "words"),
    [
        ([{"id": "RUSTSEC-2000-0001", "reason": "Because."}], []),
        ([{"id": "RUSTSEC-2000-0001", "reason": " "}], ["without a reason"]),
        ([{"id": "RUSTSEC-2000-0001"}], ["without a reason"]),
        ([{"id": "RUSTSEC-2000-0001", "reason": "Because."}] * 2, ["twice"]),
        (
            [
                {"id": "RUSTSEC-2000-0001", "reason": "Because."},
                {"id": "RUSTSEC-2000-0002", "reason": "Because."},
            ],
            ["RUSTSEC-2000-0002, which affects no locked package"],
        ),
    ],
)
def test_exceptions_need_a_reason_and_an_affected_package(ignored, words):
    lines = list(check.check_advisories([package("1.0.0")], [advisory()], ignored))
    assert len(lines) == len(words)
    assert all(word in line for word, line in zip(words, lines, strict=True))


def test_an_exception_without_need_fails_once_the_package_is_patched():
    ignored = [{"id": "RUSTSEC-2000-0001", "reason": "Because."}]
    (line,) = check.check_advisories([package("1.5.0")], [advisory('[">= 1.5.0"]')], ignored)
    assert "remove the exception" in line


@pytest.mark.parametrize(
    "text", ["# No block", "```toml\n[advisory]\n```\n", "```toml\nid = \n```\n"]
)
def test_an_advisory_that_cannot_be_read_is_an_error(text):
    with pytest.raises(check.Unreadable, match=r"file\.md is not a readable advisory"):
        check.Advisory.parse(text, "file.md")


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("MIT", True),
        ("GPL-3.0", False),
        ("GPL-3.0 OR MIT", True),
        ("MIT/GPL-3.0", True),
        ("Apache-2.0 / GPL-3.0", True),
        ("GPL-3.0 AND MIT", False),
        ("(GPL-3.0 OR MIT) AND Zlib", True),
        ("GPL-3.0 OR MIT AND LGPL-2.1", False),
        ("Apache-2.0 WITH LLVM-exception", False),
        ("Apache-2.0 WITH LLVM-exception OR MIT", True),
    ],
)
def test_licence_expressions(expression, expected):
    assert check.license_is_allowed(expression, {"MIT", "Apache-2.0", "Zlib"}) is expected


@pytest.mark.parametrize("expression", ["", "MIT OR", "(MIT", "MIT MIT", ")"])
def test_licences_that_are_no_expressions_are_refused(expression):
    with pytest.raises(check.Unreadable, match="is not a licence expression"):
        check.license_is_allowed(expression, {"MIT"})


def test_licences_and_sources_outside_the_lists_are_one_line_each():
    packages = [
        package("1.0.0", license="MIT"),
        package("2.0.0", license="GPL-3.0"),
        package("3.0.0"),
        package("4.0.0", source="git+https://example.org/sample", license="MIT"),
    ]
    lines = list(check.check_origin(packages, DENY))
    assert [line.split()[1] for line in lines] == ["2.0.0", "3.0.0", "4.0.0"]


def test_every_known_package_of_the_lock_has_its_advisories_read():
    locks = [(ROOT / lock).read_text(encoding="utf-8") for lock in check.LOCKS]
    names = {entry.name for entry in check.unique(map(check.locked, locks))}
    advisories = check.read_advisories(check.ADVISORIES)
    assert len(advisories) > 50
    assert {found.package for found in advisories} <= names, "an advisory about no locked package"


def test_older_versions_of_real_packages_are_found():
    advisories = check.read_advisories(check.ADVISORIES)
    old = [package("1.38.1", name="tokio"), package("0.16.2", name="lru")]
    lines = list(check.check_advisories(old, advisories, []))
    assert any(line.startswith("tokio 1.38.1 is affected by RUSTSEC-2025-0023") for line in lines)
    assert any(line.startswith("lru 0.16.2 is affected by RUSTSEC-2026-0002") for line in lines)


def test_refreshing_replaces_the_advisories_by_those_of_locked_packages(tmp_path, monkeypatch):
    kept, database = tmp_path / "advisories", tmp_path / "database"
    kept.mkdir()
    monkeypatch.setattr(check, "ADVISORIES", kept)
    (kept / "README.md").write_text("about")
    (kept / "sample--RUSTSEC-1999-0001.md").write_text("old")
    for name in ("sample", "another"):
        (database / "crates" / name).mkdir(parents=True)
        (database / "crates" / name / "RUSTSEC-2000-0001.md").write_text(name)
    assert check.refresh(database, [package("1.0.0")]) == 1
    assert sorted(path.name for path in kept.iterdir()) == [
        "README.md",
        "sample--RUSTSEC-2000-0001.md",
    ]
    with pytest.raises(check.Unreadable, match="has no advisories"):
        check.refresh(tmp_path, [package("1.0.0")])


@pytest.mark.skipif(shutil.which("cargo") is None, reason="needs cargo")
def test_the_real_locks_pass():
    result = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "no problem" in result.stdout
