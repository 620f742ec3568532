"""Prompts."""

from __future__ import annotations

import logging

from comfy_api.latest import io

from .. import wire
from .jobs import from_wire, run_job, show_text
from .worker import CATEGORY, Worker

log = logging.getLogger("ovis-worker")


def describe_cut(cut: wire.PromptCut, length: int) -> str:
    """What a person should know about a prompt that did not fit."""
    if cut.lost_tokens:
        return (
            f"The prompt is too long: its last {cut.lost_tokens} tokens were cut to fit "
            f"{length}. Shorten it, or set max_sequence_length above 256, where nothing is cut."
        )
    return (
        f"The whole prompt fits, but {cut.lost_template_tokens} tokens of the chat template's "
        f"ending were cut to fit {length}."
    )


class OvisEncode(io.ComfyNode):
    """A prompt to CONDITIONING."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="OvisEncode",
            display_name="Ovis Prompt Encode",
            category=CATEGORY,
            description="Encodes a prompt with Ovis-Image's text encoder, on the worker.",
            inputs=[
                Worker.Input("worker"),
                io.String.Input("prompt", multiline=True, dynamic_prompts=True),
                io.Int.Input(
                    "max_sequence_length",
                    default=256,
                    min=16,
                    max=4096,
                    tooltip="Tokens of the prompt that reach the model. Up to 256 a longer prompt "
                    "is cut; above, it is not.",
                ),
            ],
            outputs=[io.Conditioning.Output()],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    async def execute(cls, worker, prompt: str, max_sequence_length: int) -> io.NodeOutput:
        """Encodes; a cut prompt is shown on the node and logged."""
        node_id = cls.hidden.unique_id
        request = wire.EncodeRequest([prompt], max_sequence_length)
        result = await run_job(worker, node_id, request)
        cuts = [describe_cut(cut, max_sequence_length) for cut in result.outcome.cuts]
        for sentence in cuts:
            log.warning("%s", sentence)
        show_text(node_id, "\n".join(cuts))
        conditioning = from_wire(result, "conditioning")
        return io.NodeOutput([[conditioning, {"pooled_output": None}]])
