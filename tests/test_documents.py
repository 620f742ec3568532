"""The documents name links, files and folders that exist."""

from __future__ import annotations

import re

import pytest

from real_worker import ROOT

DOCUMENTS = [
    "README.md",
    "SECURITY.md",
    "CONTRIBUTING.md",
    "protocol/README.md",
    "tests/gpu/results.md",
    "worker/demo/README.md",
    "packaging/README.md",
    "packaging/grafana/README.md",
]
FOLDERS = (
    "comfy_node",
    "workflows",
    "locales",
    "packaging",
    "protocol",
    "subgraphs",
    "tests",
    "worker",
)


def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def anchor(heading: str) -> str:
    """A heading as the fragment by which GitHub links to it."""
    words = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return words.replace(" ", "-")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_somewhere(document):
    text = text_of(document)
    anchors = {anchor(heading) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in anchors, target
        elif not target.startswith("https://"):
            assert ((ROOT / document).parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_path_that_is_named_exists(document):
    """Paths from the root, in backticks; ``NAME`` and the like stand for any name."""
    paths = [
        path
        for path in re.findall(r"`([\w./*-]+)`", text_of(document))
        if path.startswith(tuple(f"{folder}/" for folder in FOLDERS))
        and not re.search(r"\b[A-Z]{4,}\b(?!\.md)", path)
    ]
    assert [path for path in paths if not any(ROOT.glob(path.rstrip("/")))] == []


def test_every_test_that_the_threat_model_names_exists():
    text = text_of("SECURITY.md")
    sources = {
        path.name: path.read_text(encoding="utf-8")
        for folder in ("tests", "worker/src/server", "worker/src/jobs")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".rs")
    }
    files = set(re.findall(r"`(?:\w+/)?(\w+\.(?:py|rs))", text))
    assert len(files) > 20 and files <= sources.keys(), files - sources.keys()
    named = set(re.findall(r"`(?:(?:\w+/)?(\w+\.(?:py|rs))::)?([a-z]\w+)`", text))
    tests = {(file, name) for file, name in named if file or name.startswith("test_")}
    assert len(tests) > 25
    for file, name in tests:
        found = [sources[file]] if file else sources.values()
        assert any(re.search(rf"\b(?:def|fn) {name}\(", source) for source in found), name
