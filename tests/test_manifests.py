"""Cargo's manifests say the same where they must."""

from __future__ import annotations

import re

import tomllib

from worker_binary import ROOT


def _optimised(manifest: str) -> dict:
    """How single packages are optimised in the builds that the tests use."""
    return tomllib.loads((ROOT / manifest).read_text("utf-8"))["profile"]["dev"]["package"]


def test_the_fuzz_targets_build_packages_as_the_tests_do():
    """Otherwise the packages that both share would be compiled twice."""
    fuzz = _optimised("tests/fuzz/Cargo.toml")
    assert fuzz.pop("ovis-worker") == {"opt-level": 0}
    assert fuzz == _optimised("Cargo.toml")


def test_every_optimised_package_is_one_that_is_locked():
    locked = (ROOT / "Cargo.lock").read_text("utf-8")
    names = set(re.findall(r'^name = "(.+)"$', locked, re.MULTILINE))
    assert _optimised("Cargo.toml").keys() - {"*"} <= names
