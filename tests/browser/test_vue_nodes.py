"""Our nodes in "Nodes 2.0", in which ComfyUI's frontend renders nodes as HTML.

Runs when ``tests/browser/test_browser.py`` does.
"""

from __future__ import annotations

import pytest

from test_browser import act, comfy, pixels

FIXTURES = (act, comfy)  # pytest finds them by name


def test_panels_advice_a_run_and_its_picture(comfy, act):
    if comfy.version < (0, 18):
        pytest.skip("SKIPPED: Nodes 2.0 is an experiment in this frontend, and was NOT tried.")
    seen = act("vue")
    assert seen["start"] == "864 × 1216 px · 1.00 MP"
    assert seen["status"].strip()
    assert seen["ratio"] == 4 and seen["wide"] == "2048 × 512 px · 1.00 MP"
    assert seen["preset"] == "free"
    assert seen["story"] == "768 × 1360 px · 1.00 MP" and seen["storyRatio"] == "0.563"
    assert "full-width" in seen["advice"][0] and "set steps to 60" in seen["advice"][1]
    assert seen["fixed"] == 'A price tag that reads "＄5" in vertical text'
    # The prompt uses all free height of the node, also after advice was shown and removed.
    assert min(seen["promptsShare"]) > 0.45
    assert seen["run"]["end"] == "execution_success", seen["run"]["error"]
    assert seen["run"]["previews"] > 0
    (saved,) = [image for image in seen["run"]["images"] if image["type"] == "output"]
    assert seen["shown"] == [pixels(comfy, saved).shape[1]]
    cut, not_cut = seen["said"]
    assert len(cut) == 1 and "tokens were cut" in cut[0] and not_cut == []
