"""The texts of nodes for a page in Chinese, in a real ComfyUI.

Runs when ``OVIS_COMFYUI`` names a ComfyUI checkout.
"""

from __future__ import annotations

import re

import pytest

from real_comfyui import comfy, graph
from test_comfyui_designer import sheet

FIXTURES = (comfy,)  # pytest finds it by name
CJK = re.compile("[\u4e00-\u9fff]")


def test_an_error_of_the_node_pack(comfy):
    unknown = graph(worker__worker="studio")
    assert (
        "名为“studio”的 Ovis 服务：这个工作流要使用它，但此处没有设置它"
        in comfy.run(unknown, language="zh").error
    )
    # Another page that is open at the same time gets its own language.
    assert "called `studio`" in comfy.run(unknown, language="en").error


def test_an_error_of_the_worker_comes_after_what_kind_it_is(comfy):
    odd = ("EmptyLatentImage", {"width": 72, "height": 96, "batch_size": 1})
    made = graph(empty=odd, denoise__seed=72)
    english, chinese = (comfy.run(made, language=language).error for language in ("en", "zh"))
    assert "multiple" in english and not CJK.search(english)
    assert chinese.strip() == f"Ovis 服务拒绝了这个请求：{english.strip()}"


def test_what_is_said_on_a_node(comfy):
    run = comfy.run(graph(positive__prompt="many words " * 60, denoise__seed=62), language="zh")
    assert run.of("execution_success"), run.error
    assert any("末尾的" in text and "个被截掉了" in text for text in run.texts), run.texts
    reported = [data["output"] for data in run.of("executed") if data["node"] == "positive"]
    assert CJK.search(reported[0]["ovis_advice"][0])


def test_a_list_that_is_wrong_is_refused_before_anything_runs(comfy):
    with pytest.raises(AssertionError, match="张图像，最多为 64 张"):
        comfy.run(sheet(seeds="0-99", steps="2", cfg="5"), language="zh")
