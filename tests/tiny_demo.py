"""The demo model's recipe with networks small enough for a test."""

from pathlib import Path

import torch

import train
from training import models as model_parts

TRAIN = Path(train.__file__).parent


def configuration() -> dict:
    """The configuration of all stages in the smoke test, with smaller networks and posters."""
    config = train.read_config("align", smoke=True)
    config["posters"]["sizes"] = [{"width": 64, "height": 64, "share": 1.0}]
    config["transformer"] |= {"num_attention_heads": 1}
    config["text_encoder"] |= {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
    }  # fmt: skip
    config["vae"]["block_out_channels"] = [32, 32, 32, 32]
    return config


def initial() -> model_parts.Models:
    """Random models, none of whose outputs is zero."""
    torch.manual_seed(0)
    models = model_parts.build(configuration())
    with torch.no_grad():
        for parameter in models.transformer.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return models
