"""Advice on prompts: each rule where it helps, and no advice where it would not."""

from __future__ import annotations

import pytest

from comfy_node import wire
from comfy_node.prompts.advice import _SENTENCES, LANGUAGES, about_cut, advise

START = "A wide street in the evening with many people who walk under umbrellas past lit windows, "
MIDDLE = (
    "a tram in the distance, wet stones, a dog, two bicycles at a fence and a newspaper stand, "
)


def rules(prompt: str, **settings: float) -> list[str]:
    return [advice.rule for advice in advise(prompt, **settings)]


@pytest.mark.parametrize(
    ("late", "rule"),
    [
        ("with a sign in a serif typeface", "font_late"),
        ("书法", "font_late"),
        ("and a blue door", "colour_late"),
        ("还有很多行人", "cjk_late"),
    ],
)
def test_a_late_word_is_mentioned_and_an_early_or_quoted_one_is_not(late, rule):
    assert rule in rules(START + MIDDLE + late)
    assert rule not in rules(f"{late}. {START}{MIDDLE}")
    assert rule not in rules(f'{START}{MIDDLE}a sign: "{late}"')
    assert rule not in rules(f"{late}, {START}{MIDDLE}{late}")
    assert rules(late) == []


def test_a_chinese_prompt_is_no_mixture():
    assert rules("黄昏的街道上有很多撑着伞的行人，" * 12) == []


def test_a_dollar_is_offered_in_full_width_also_in_quotes():
    (advice,) = advise('A price tag: "$5"')
    assert (advice.rule, advice.fixed) == ("dollar", 'A price tag: "＄5"')
    assert rules(advice.fixed) == []


@pytest.mark.parametrize(
    "prompt", ["A scroll with vertical text", "竖排的标题", "characters running vertically"]
)
def test_vertical_layout_wants_sixty_steps(prompt):
    assert rules(prompt) == rules(prompt, steps=50) == ["vertical"]
    assert rules(prompt, steps=60) == []


@pytest.mark.parametrize(
    "prompt", ["a vertical poster", 'a sign: "vertical text"', "a steep cliff"]
)
def test_a_tall_image_is_not_vertical_text(prompt):
    assert rules(prompt, steps=20) == []


def test_guidance_above_seven_is_mentioned():
    assert rules("a", cfg=7.0) == []
    (advice,) = advise("a", cfg=7.5)
    assert advice.sentence() == (
        "cfg 7.5 is high: above 7 colours burn and letters break. 5 is the model's own."
    )


@pytest.mark.parametrize(
    ("prompt", "mark"),
    [('a sign: "HELLO', '"'), ("a sign: “HELLO", "“"), ("a sign: HELLO」", "」"), ("《书", "《")],
)
def test_a_lonely_quotation_mark_is_named(prompt, mark):
    (advice,) = advise(prompt)
    assert (advice.rule, advice.about) == ("quotes", (mark,))


@pytest.mark.parametrize("prompt", ['a "b" c "d"', "“a” 「b」『c』《d》", "it's a dog's life", ""])
def test_balanced_marks_and_apostrophes_are_well(prompt):
    assert rules(prompt) == []


def test_a_cut_says_how_much_and_what_to_do():
    cut = about_cut(wire.PromptCut(0, 12, 9), 256)
    assert "last 12 tokens were cut to fit 256" in cut.sentence()
    ending = about_cut(wire.PromptCut(0, 0, 9), 256)
    assert "9 tokens of the chat template's ending" in ending.sentence()


@pytest.mark.parametrize("rule", _SENTENCES)
def test_every_sentence_is_there_in_every_language_with_the_same_places(rule):
    texts = _SENTENCES[rule]
    assert len(texts) == len(LANGUAGES)
    for place in ("{0}", "{1}"):
        assert (place in texts[0]) == (place in texts[1])
    assert any("\u4e00" <= character <= "\u9fff" for character in texts[1])
