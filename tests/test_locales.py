"""Help pages and translations: the same content in both languages, with nothing missing."""

from __future__ import annotations

import json
import re

import pytest

from browser_modules import evaluate, play
from comfy_node.pictures import compare, contact_sheet, sizes
from comfy_node.prompts import templates
from comfy_node.wire import Priority
from real_worker import ROOT

LOCALES = ("en", "zh")
FILES = ("nodeDefs.json", "main.json", "settings.json")
DOCS = ROOT / "comfy_node" / "web" / "docs"
SCRIPTS = ROOT / "comfy_node" / "web" / "js"
CJK = re.compile("[\u4e00-\u9fff]")
# Texts that are the same in Chinese.
SAME_IN_CHINESE = {"Latent", "cfg", "Sigmas", "Ovis"}


def texts(locale: str, file: str) -> dict:
    return json.loads((ROOT / "locales" / locale / file).read_text(encoding="utf-8"))


def leaves(tree: object, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], str]:
    if isinstance(tree, str):
        return {path: tree}
    return {
        where: leaf
        for key, branch in tree.items()
        for where, leaf in leaves(branch, (*path, key)).items()
    }


@pytest.mark.parametrize("file", FILES)
def test_both_languages_say_the_same_things(file):
    assert set(leaves(texts("en", file))) == set(leaves(texts("zh", file)))


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("locale", LOCALES)
def test_no_text_holds_what_the_frontend_takes_for_a_formula(locale, file):
    for text in leaves(texts(locale, file)).values():
        assert text.strip() and not re.search(r"[{}@|]", text)


def test_the_chinese_texts_are_chinese():
    for file in FILES:
        for text in leaves(texts("zh", file)).values():
            assert text in SAME_IN_CHINESE or CJK.search(text), text


@pytest.mark.parametrize("node", texts("en", "nodeDefs.json"))
@pytest.mark.parametrize("locale", LOCALES)
def test_every_node_has_a_help_page_that_is_called_as_the_node(node, locale):
    page = (DOCS / node / f"{locale}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {texts(locale, 'nodeDefs.json')[node]['display_name']}\n")


@pytest.mark.parametrize("node", texts("en", "nodeDefs.json"))
def test_both_help_pages_name_the_same_widgets_and_have_the_same_parts(node):
    pages = [(DOCS / node / f"{locale}.md").read_text(encoding="utf-8") for locale in LOCALES]
    for mark in (r"^## ", r"^\|", r"^```"):
        counts = [len(re.findall(mark, page, re.MULTILINE)) for page in pages]
        assert counts[0] == counts[1], mark


def test_the_browsers_own_sentences_are_there_in_both_languages():
    source = (SCRIPTS / "texts.js").read_text(encoding="utf-8")
    parts = re.split(r"^  (?:en|zh): \{$", source, flags=re.MULTILINE)[1:]
    english, chinese = (set(re.findall(r'^    "([\w.]+)":', part, re.MULTILINE)) for part in parts)
    assert english == chinese
    used = set()
    for path in SCRIPTS.glob("*.js"):
        used |= set(re.findall(r'text\(\s*"([\w.]+)"', path.read_text(encoding="utf-8")))
    assert used <= english


def test_every_option_of_ours_has_a_chinese_name_of_its_own():
    options = {
        ("OvisEmptyLatent", "preset"): {sizes.FREE, *sizes.PRESETS},
        ("OvisPromptTemplate", "template"): set(templates.find([templates.SHIPPED]).templates),
        ("OvisCompare", "layout"): set(compare.LAYOUTS),
        ("OvisContactSheet", "columns"): set(contact_sheet.AXES),
        ("OvisKSampler", "quality"): {"steps as set", "preview: 20 steps", "final: 50 steps"},
        ("OvisWorker", "priority"): {priority.name.lower() for priority in Priority},
        ("OvisWorker", "model"): {"default"},
    }
    named = evaluate("chinese_names.js", "m.OPTIONS")
    said = {(node, name): labels for node in named for name, labels in named[node].items()}
    assert {widget: set(labels) for widget, labels in said.items()} == options
    for labels in said.values():
        assert len(set(labels.values())) == len(labels)
        for label in labels.values():
            assert label in SAME_IN_CHINESE or CJK.search(label), label


def test_every_title_in_a_workflow_is_there_in_both_languages():
    graphs = [
        json.loads(path.read_text(encoding="utf-8")) for path in (ROOT / "workflows").glob("*.json")
    ]
    named = evaluate("chinese_names.js", "m.TITLES")
    titles = set()
    for one in [one for graph in graphs for one in [*graph["nodes"], *graph["groups"]]]:
        title = one.get("title")
        if one.get("type", "").startswith("Ovis"):
            # `names.js` translates a title if the node records that it was published with it.
            assert one["properties"].get("ovis_title") == title
            titles |= {title} - {None}
        elif title is not None:
            # Foreign nodes and groups are not changed, so their titles have both languages.
            english, chinese = title.split(" · ")
            assert CJK.search(chinese) and not CJK.search(english)
    assert set(named) == titles
    assert len(set(named.values())) == len(named)
    assert all(CJK.search(title) for title in named.values())


@pytest.mark.parametrize(
    ("locale", "language"),
    [
        ("zh", "zh"),
        ("zh-CN", "zh"),
        ("zh-Hans-TW", "zh"),
        ("zh-TW", "en"),
        ("zh-Hant", "en"),
        ("zh-HK", "en"),
        ("fr", "en"),
        ("en", "en"),
    ],
)
def test_traditional_chinese_falls_back_to_english(locale, language):
    assert play("return (await load('texts.js')).language();", locale=locale) == language
