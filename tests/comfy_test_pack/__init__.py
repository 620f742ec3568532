"""For a ComfyUI under test: what its own nodes lack there.

ComfyUI knows the geometry of Ovis-Image's text encoder by heart: 1.7 billion
parameters. The numbers of ``OVIS_SMALL_TEXT_ENCODER`` (JSON) take their place
here; loader, tokenizer, template, layers and nodes stay ComfyUI's own. A ComfyUI
without native Ovis is left alone.
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
    """An empty latent with 16 pixels a position, each way, and 128 channels."""

    INPUT_TYPES = classmethod(lambda _: {"required": {"width": ("INT",), "height": ("INT",)}})
    RETURN_TYPES = ("LATENT",)
    FUNCTION = "make"
    CATEGORY = "test"

    def make(self, width: int, height: int) -> tuple[dict]:
        """As newer ComfyUI's nodes write it."""
        samples = torch.zeros([1, 128, height // 16, width // 16])
        return ({"samples": samples, "downscale_ratio_spacial": 16},)


NODE_CLASS_MAPPINGS = {"EmptyLatentOfAnotherModel": EmptyLatentOfAnotherModel}
