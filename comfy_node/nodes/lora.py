"""The node that applies an adapter (LoRA and its relatives), and the input that takes a stack."""

from __future__ import annotations

import re
from collections.abc import Sequence

from comfy_api.latest import io

from .. import wire
from ..texts import WorkerError, say
from . import choices, inputs
from .newer import advanced, schema
from .worker import CATEGORY

Lora = io.Custom("OVIS_LORA")
"""The type of links between nodes that carry a stack of adapters."""

MAX_STRENGTH = 2.0


class OvisLora(io.ComfyNode):
    """Adds an adapter to a stack of them."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declares inputs and outputs."""
        strength = {
            "default": 1.0,
            "min": -MAX_STRENGTH,
            "max": MAX_STRENGTH,
            "step": 0.05,
            "round": 0.001,
            "display_mode": io.NumberDisplay.slider,
        }
        sigma = {"min": 0.0, "max": 1.0, "step": 0.01, "round": 0.001}
        return schema(
            node_id="OvisLora",
            display_name="Ovis LoRA",
            category=CATEGORY,
            description="Applies an adapter (LoRA, DoRA, LoKr, LoHa, OFT) of the worker. Chain "
            "several; connect the last one to Ovis Prompt Encode and Ovis Denoise.",
            search_aliases=["Load LoRA", "LoraLoader", "adapter", "style", "风格"],
            inputs=[
                io.Combo.Input(
                    "adapter",
                    options=choices.adapter_names(),
                    default=choices.NO_ADAPTER,
                    tooltip="An adapter in one of the worker's folders. The list is the worker's.",
                ),
                io.Float.Input(
                    "strength",
                    tooltip="1 is the strength that the adapter was trained with; 0 turns it off.",
                    **strength,
                ),
                advanced(
                    io.Float.Input(
                        "text_factor",
                        tooltip="Factor of the strength for the text encoder, if the adapter "
                        "changes it.",
                        **strength,
                    )
                ),
                advanced(
                    io.Float.Input(
                        "start",
                        default=1.0,
                        tooltip="Sigma at which the adapter begins to change the transformer; 1 is "
                        "the first step.",
                        **sigma,
                    )
                ),
                advanced(
                    io.Float.Input(
                        "end",
                        default=0.0,
                        tooltip="Sigma at which it ends; 0 is the last step.",
                        **sigma,
                    )
                ),
                advanced(
                    io.String.Input(
                        "blocks",
                        default="",
                        tooltip="Factors of the strength for each transformer block, "
                        "double-stream blocks first, for example 1, 1, 0.5. Empty: 1 for all.",
                    )
                ),
                io.String.Input(
                    "hash",
                    default="",
                    tooltip="SHA-256 of the adapter's file, so that a shared workflow uses the "
                    "same adapter. It is filled in when you choose one.",
                ),
                Lora.Input(
                    "lora", optional=True, tooltip="Other adapters, which are applied first."
                ),
            ],
            outputs=[Lora.Output(display_name="lora")],
        )

    @classmethod
    def validate_inputs(cls, adapter: object) -> bool:
        """Accepts any name; the worker reports a missing adapter, with a hint."""
        return True

    @classmethod
    def execute(
        cls,
        adapter: str,
        strength: float,
        text_factor: float = 1.0,
        start: float = 1.0,
        end: float = 0.0,
        blocks: str = "",
        hash: str = "",
        lora: object = None,
    ) -> io.NodeOutput:
        """Returns the stack with the adapter on top. One without effect is left out."""
        stack = adapters("lora", lora)
        name = inputs.text("adapter", adapter, wire.MAX_ADAPTER_NAME_BYTES)
        strength = inputs.number("strength", strength, -MAX_STRENGTH, MAX_STRENGTH)
        factor = inputs.number("text_factor", text_factor, -MAX_STRENGTH, MAX_STRENGTH)
        weights = _weights(inputs.text("blocks", blocks))
        interval = _interval(start, end)
        digest = _hash(inputs.text("hash", hash))
        if name == choices.NO_ADAPTER or strength == 0:
            return io.NodeOutput(stack)
        if not wire.is_adapter_name(name):
            raise WorkerError(
                say("`{name}` is not the name of an adapter.", name=name),
                say("Choose one of the list."),
            )
        if len(stack) == wire.MAX_ADAPTERS:
            raise WorkerError(
                say("A job takes at most {most} adapters.", most=wire.MAX_ADAPTERS),
                say("Remove an Ovis LoRA, or merge some adapters into one file."),
            )
        use = wire.AdapterUse(
            name,
            digest,
            strength,
            strength * factor,
            interval,
            weights,
        )
        return io.NodeOutput([*stack, use])


def lora_input() -> io.Input:
    """The socket for a stack of adapters; optional and last, so that older graphs still run."""
    return Lora.Input("lora", optional=True, tooltip="Adapters, from an Ovis LoRA.")


def adapters(name: str, value: object) -> list[wire.AdapterUse]:
    """The stack of adapters that an input called ``name`` gets.

    Raises :class:`WorkerError` for a value of another kind.
    """
    if value is None:
        return []
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    if is_list and all(isinstance(one, wire.AdapterUse) for one in value):
        return list(value)
    raise inputs.refusal(
        name, value, say("a stack of adapters"), say("Connect the output of an Ovis LoRA.")
    )


def _interval(start: object, end: object) -> wire.SigmaInterval | None:
    start, end = inputs.number("start", start, 0.0, 1.0), inputs.number("end", end, 0.0, 1.0)
    if end > start:
        raise WorkerError(
            say("start is {start:g}, below end, {end:g}.", start=start, end=end),
            say(
                "Sigmas descend from 1 to 0 while an image is made: set the larger value as "
                "the start."
            ),
        )
    return None if start >= 1 and end <= 0 else wire.SigmaInterval(start, end)


def _weights(text: str) -> list[float]:
    words = re.split(r"[\s,;，、]+", text.strip())
    if words == [""]:
        return []
    try:
        weights = [float(word) for word in words]
    except ValueError:
        weights = []
    most = wire.MAX_ADAPTER_STRENGTH
    if 0 < len(weights) <= wire.MAX_BLOCK_WEIGHTS and all(abs(one) <= most for one in weights):
        return weights
    raise inputs.refusal("blocks", text, say("numbers with commas, one for each block"))


def _hash(text: str) -> bytes | None:
    """The bytes of a hash; a text that is none is ignored, as a saved one is only a help."""
    text = text.strip().lower()
    return bytes.fromhex(text) if re.fullmatch("[0-9a-f]{64}", text) else None
