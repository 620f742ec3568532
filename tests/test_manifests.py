"""Cargo's manifests say the same where they must."""

from __future__ import annotations

import re
import sys

import pytest

from worker_binary import ROOT

if sys.version_info < (3, 11):
    pytest.skip("reading TOML needs Python 3.11", allow_module_level=True)

import tomllib


def _manifest(*folder: str) -> dict:
    return tomllib.loads(ROOT.joinpath(*folder, "Cargo.toml").read_text(encoding="utf-8"))


def test_the_fuzz_targets_build_packages_as_the_tests_do():
    """Otherwise the packages that both share would be compiled twice."""
    ours, theirs = (_manifest(*folder)["profile"]["dev"] for folder in ((), ("tests", "fuzz")))
    alone = theirs["package"].pop("ovis-worker")
    assert alone == {"opt-level": 0}
    assert ours["package"] == theirs["package"]


def test_every_optimised_package_is_one_that_the_worker_uses():
    locked = (ROOT / "Cargo.lock").read_text(encoding="utf-8")
    names = set(re.findall(r'^name = "(.+)"$', locked, re.MULTILINE))
    optimised = set(_manifest()["profile"]["dev"]["package"]) - {"*"}
    assert optimised <= names
