"""House templates: the composed prompts, and the sentences on invalid files."""

from __future__ import annotations

import json

import pytest

from comfy_node.prompts import templates
from comfy_node.prompts.advice import advise
from comfy_node.prompts.templates import BOXES, SHIPPED, Template
from comfy_node.texts import WorkerError

TEMPLATE = Template(
    "t",
    ("A poster", " for {subject}", " in {style}", ". Title: {headline}", "."),
    defaults={"style": "ink"},
)


def write(folder, name, content):
    folder.mkdir(exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / f"{name}.json").write_text(text, encoding="utf-8")


def test_pieces_with_an_empty_box_are_left_out_and_defaults_step_in():
    assert TEMPLATE.compose({}) == "A poster in ink."
    assert TEMPLATE.compose({"style": " oil ", "headline": "HI"}) == 'A poster in oil. Title: "HI".'
    assert TEMPLATE.compose({"subject": "a {style} fair"}) == "A poster for a {style} fair in ink."


@pytest.mark.parametrize(
    ("headline", "quoted"),
    [
        ("ONE\n\n TWO ", '"ONE", "TWO"'),
        ('"ONE"', '"ONE"'),
        ('The "best" one', "\"The 'best' one\""),
        ("“夏天”", '"夏天"'),
        (" \n", ""),
    ],
)
def test_headlines_are_quoted_line_by_line(headline, quoted):
    assert templates.quoted(headline) == quoted


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.json")), ids=lambda path: path.stem)
def test_a_shipped_template_reads_well_with_and_without_boxes(path):
    template = templates.read(path)
    assert template.about and template.negative
    full = template.compose({box: f"the {box}" for box in BOXES})
    assert '"the headline"' in full
    assert all(f"the {box}" in full for box in BOXES)
    for text in (full, template.compose({}), template.compose({"headline": "HELLO"})):
        assert text and "{" not in text
        assert not any(bad in text for bad in ("  ", " .", " ,", "..", ",.", ".,", ":.", ": ."))
        assert text[0].isupper() or text[0].isdigit() or text.startswith("the style")
        assert text.endswith(".")
        assert advise(text) == []


def test_the_users_templates_come_after_and_win(tmp_path):
    write(tmp_path / "ovis_templates", "poster", {"prompt": "Mine: {headline}"})
    write(tmp_path / "ovis_templates", "house", {"prompt": ["x"]})
    found = templates.find(templates.search_path(tmp_path))
    assert found.problems == []
    assert found.named("poster").compose({"headline": "A"}) == 'Mine: "A"'
    assert {"house", "bilingual-banner"} <= set(found.templates)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "cannot be read"),
        ([], "is not a JSON object"),
        ({}, "has no `prompt`"),
        ({"prompt": []}, "has no `prompt`"),
        ({"prompt": [1]}, "has no `prompt`"),
        ({"prompt": "x", "negative": 1}, "that is not text"),
        ({"prompt": "x", "defaults": {"style": 1}}, "that is not text"),
        ({"prompt": "x", "defaults": []}, "that is not text"),
        ({"prompt": "{font}"}, "uses an unknown box, `font`"),
        ({"prompt": "x", "defaults": {"font": "y"}}, "uses an unknown box, `font`"),
        ('{"prompt": "' + "x" * 70000 + '"}', "is larger than 64 KiB"),
    ],
)
def test_a_bad_file_is_named_in_one_sentence_and_spoils_no_other(tmp_path, content, said):
    write(tmp_path, "good", {"prompt": "x"})
    write(tmp_path, "odd", content)
    found = templates.find([tmp_path])
    assert list(found.templates) == ["good"]
    (problem,) = found.problems
    assert problem.startswith("The house template `odd` (") and said in problem
    with pytest.raises(WorkerError, match="house template `odd`"):
        found.named("odd")


def test_a_template_that_is_not_here_says_where_to_put_it(tmp_path):
    with pytest.raises(WorkerError, match=r"Put team\.json into the folder ovis_templates"):
        templates.find([tmp_path]).named("team")
