"""The texts that a node shows when it runs, in ComfyUI's own frontend.

Runs when ``tests/browser/test_browser.py`` does.
"""

from __future__ import annotations

import pytest

from test_browser import act, comfy

FIXTURES = (act, comfy)  # pytest finds them by name


@pytest.mark.parametrize("vue", [False, True], ids=["canvas", "Nodes 2.0"])
def test_what_was_cut_is_said_until_the_prompt_changes_and_is_saved_nowhere(comfy, act, vue):
    if vue and comfy.version < (0, 18):
        pytest.skip("SKIPPED: Nodes 2.0 is an experiment in this frontend, and was NOT tried.")
    seen = act("cut", vue=vue)
    assert seen["end"] == "execution_success"
    for when in ("after", "again", "anew"):
        (line,) = seen[when]
        assert "tokens were cut" in line, when
    assert seen["changed"] == seen["short"] == []
    # It is shown in our own panel only, and is not saved with the workflow.
    assert set(seen["panels"]) == {"ovis_text"}
    assert "tokens were cut" not in seen["saved"]
    assert len(seen["values"]) == 2
    # The node shrinks back to its previous size.
    assert seen["heightAfter"] == seen["heightBefore"]


def test_what_is_wrong_with_a_house_template_is_said_after_the_job(comfy, act):
    folder = comfy.base / "user" / "default" / "ovis_templates"
    folder.mkdir(exist_ok=True)
    odd = folder / "odd.json"
    odd.write_text("[]")
    try:
        seen = act("badTemplate")
    finally:
        odd.unlink()
    assert seen["end"] == "execution_success"
    (line,) = seen["after"]
    assert "`odd`" in line and "is not a JSON object" in line
    assert seen["changed"] == []
