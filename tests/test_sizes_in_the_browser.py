"""The rectangle that the browser draws has the size of the latent that the node creates."""

from __future__ import annotations

import pytest

from browser_modules import evaluate
from comfy_node.pictures import sizes


def test_both_sides_have_the_same_constants_and_presets():
    said = evaluate("sizes.js", "m")
    assert said.pop("PRESETS") == sizes.PRESETS
    assert said == {name: getattr(sizes, name) for name in said}


def test_both_sides_give_the_same_size_at_every_slider_position_and_preset():
    ratios = [hundredths / 100 for hundredths in range(25, 401)] + list(sizes.PRESETS.values())
    areas = [twentieths / 20 for twentieths in range(1, 81)]
    both = "[RATIOS].flatMap((r) => [AREAS].map((a) => m.sizeOf(r, a)))"
    both = both.replace("RATIOS", ",".join(map(repr, ratios)))
    said = evaluate("sizes.js", both.replace("AREAS", ",".join(map(repr, areas))))
    assert said == [list(sizes.size_of(ratio, area)) for ratio in ratios for area in areas]


@pytest.mark.parametrize("preset", sizes.PRESETS)
def test_a_preset_is_a_ratio_the_model_takes_and_wins_over_the_slider(preset):
    ratio = sizes.ratio_of(preset, 0.123)
    assert 0.25 <= ratio <= 4
    width, height = sizes.size_of(ratio, 1.0)
    assert abs(width / height / ratio - 1) < 0.03
    assert sizes.ratio_of(sizes.FREE, 0.123) == 0.123


def test_half_a_step_goes_up_on_both_sides():
    area = (24 * 16 + 8) ** 2 / sizes.MEGAPIXEL
    assert sizes.size_of(1.0, area) == (400, 400)
    assert evaluate("sizes.js", f"m.sizeOf(1, {area!r})") == [400, 400]
