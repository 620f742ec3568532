"""Nodes and patches that a ComfyUI under test needs.

ComfyUI has the geometry of Ovis-Image's text encoder, 1.7 billion parameters, built in. This pack
replaces it by the numbers in ``OVIS_SMALL_TEXT_ENCODER`` (JSON); loader, tokenizer, template,
layers and nodes remain ComfyUI's own. A ComfyUI without native Ovis-Image is not changed.
"""

import json
import os

import comfy.sd
import comfy.text_encoders.llama as llama
import torch

GEOMETRY = json.loads(os.environ["OVIS_SMALL_TEXT_ENCODER"])
NORM = "model.layers.0.post_attention_layernorm.weight"

if hasattr(llama, "Ovis25_2BConfig"):
    real_config, real_detect = llama.Ovis25_2BConfig, comfy.sd.detect_te_model

    def small_config(**values: object) -> object:
        """The text encoder's config, in the small geometry."""
        config = real_config(**values)
        for name, value in GEOMETRY.items():
            assert hasattr(config, name), name
            setattr(config, name, value)
        return config

    def detect(weights: dict) -> object:
        """Recognises the small one by its width, as ComfyUI does the real one."""
        if NORM in weights and weights[NORM].shape == (GEOMETRY["hidden_size"],):
            return comfy.sd.TEModel.QWEN3_2B
        return real_detect(weights)

    llama.Ovis25_2BConfig, comfy.sd.detect_te_model = small_config, detect


class EmptyLatentOfAnotherModel:
    """An empty latent of 128 channels, where a position stands for 16 pixels in each direction."""

    INPUT_TYPES = classmethod(lambda _: {"required": {"width": ("INT",), "height": ("INT",)}})
    RETURN_TYPES = ("LATENT",)
    FUNCTION = "make"
    CATEGORY = "test"

    def make(self, width: int, height: int) -> tuple[dict]:
        """As newer ComfyUI's nodes write it."""
        samples = torch.zeros([1, 128, height // 16, width // 16])
        return ({"samples": samples, "downscale_ratio_spacial": 16},)


class AnyType(str):
    """The wildcard type that node packs give to an output that fits any input."""

    def __ne__(self, other: object) -> bool:
        return False


class AnyValue:
    """Outputs a value of a type that an input may not expect."""

    INPUT_TYPES = classmethod(lambda _: {"required": {"kind": (list(VALUES),)}})
    RETURN_TYPES = (AnyType("*"),)
    FUNCTION = "make"
    CATEGORY = "test"

    def make(self, kind: str) -> tuple:
        """The value, which nothing is done to on its way."""
        return (VALUES[kind](),)


VALUES = {
    "none": lambda: None,
    "int": lambda: 7,
    "list": lambda: [1, "two", None],
    "dict": lambda: {"samples": None},
    "tensor": lambda: torch.full([2, 3], float("nan")),
}


class EndOfAnything:
    """An output node that accepts any value."""

    INPUT_TYPES = classmethod(lambda _: {"required": {"value": (AnyType("*"),)}})
    RETURN_TYPES = ()
    FUNCTION = "take"
    CATEGORY = "test"
    OUTPUT_NODE = True

    def take(self, value: object) -> dict:
        """Nothing comes of it."""
        return {}


class ListOfSeeds:
    """Outputs a list; ComfyUI runs the next node once per entry."""

    INPUT_TYPES = classmethod(lambda _: {"required": {"first": ("INT",), "count": ("INT",)}})
    RETURN_TYPES = ("INT",)
    OUTPUT_IS_LIST = (True,)
    FUNCTION = "make"
    CATEGORY = "test"

    def make(self, first: int, count: int) -> tuple[list[int]]:
        """As many numbers, one after the other."""
        return (list(range(first, first + count)),)


class OvisU1ModelLoader:
    """A node of another pack whose name begins as ours do."""

    INPUT_TYPES = classmethod(lambda _: {"required": {"preset": (["free", "poster"],)}})
    RETURN_TYPES = ("MODEL",)
    FUNCTION = "load"
    CATEGORY = "test"

    def load(self, preset: str) -> tuple:
        """There is no model."""
        return (None,)


CLASSES = (
    EmptyLatentOfAnotherModel, AnyValue, EndOfAnything, ListOfSeeds, OvisU1ModelLoader,
)  # fmt: skip
NODE_CLASS_MAPPINGS = {kind.__name__: kind for kind in CLASSES}
