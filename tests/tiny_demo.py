"""The demo model's recipe with networks small enough for a test."""

from pathlib import Path

import tomllib
import torch

from training import models as model_parts

TRAIN = Path(model_parts.__file__).parents[1]
STAGES = ("finetuning", "preference", "reward")


def configuration() -> dict:
    """The recipe's configuration, with the tables of the smoke test and smaller networks."""
    config = tomllib.loads((TRAIN / "config.toml").read_text("utf-8"))
    for name in STAGES:
        config[name] = tomllib.loads((TRAIN / "stages" / f"{name}.toml").read_text("utf-8"))
    for name, table in tomllib.loads((TRAIN / "smoke.toml").read_text("utf-8")).items():
        config[name] |= table
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
