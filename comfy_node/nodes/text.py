"""The node that encodes a prompt."""

from __future__ import annotations

import logging

from comfy_api.latest import io

from .. import wire
from ..prompts.advice import about_cut, advise
from ..texts import page_language
from . import inputs
from .jobs import from_wire, run_job, show_text
from .lora import adapters, lora_input
from .newer import advanced, schema
from .worker import CATEGORY, Worker

log = logging.getLogger("ovis-worker")


class OvisEncode(io.ComfyNode):
    """Encodes a prompt to a CONDITIONING."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declares inputs and outputs."""
        return schema(
            node_id="OvisEncode",
            display_name="Ovis Prompt Encode",
            category=CATEGORY,
            description="Encodes a prompt with Ovis-Image's text encoder on the worker.",
            search_aliases=["CLIP Text Encode", "prompt", "positive", "negative", "提示词"],
            has_intermediate_output=True,
            inputs=[
                Worker.Input("worker"),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="Describe the image. Put text that should appear in it into "
                    "quotation marks.",
                ),
                advanced(
                    io.Int.Input(
                        "max_sequence_length",
                        default=256,
                        min=16,
                        max=4096,
                        tooltip="Maximum prompt length in tokens. Up to 256, a longer prompt is "
                        "cut; above 256, nothing is cut.",
                    )
                ),
                lora_input(),
            ],
            outputs=[io.Conditioning.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    async def execute(
        cls, worker: str, prompt: str, max_sequence_length: int, lora: object = None
    ) -> io.NodeOutput:
        """Encodes the prompt. Cut tokens are shown on the node, logged, and part of the advice."""
        node_id = cls.hidden.unique_id
        prompt = inputs.text("prompt", prompt, wire.MAX_PROMPT_BYTES)
        max_sequence_length = inputs.integer("max_sequence_length", max_sequence_length, 1, 4096)
        request = wire.EncodeRequest([prompt], max_sequence_length, adapters("lora", lora))
        result = await run_job(worker, node_id, request)
        cuts = [about_cut(cut, max_sequence_length) for cut in result.outcome.cuts]
        for cut in cuts:
            log.warning("%s", cut.sentence())
        language = page_language.current()
        shown = [cut.sentence(language) for cut in cuts]
        show_text(node_id, *shown)
        conditioning = from_wire(result, "conditioning")
        advice = [advice.sentence(language) for advice in [*cuts, *advise(prompt)]]
        return io.NodeOutput(
            [[conditioning, {"pooled_output": None}]],
            ui={"ovis_advice": advice, "ovis_text": shown},
        )
