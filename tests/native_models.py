"""A ComfyUI ``models`` folder that ComfyUI's own loaders accept too.

They have some of Ovis-Image's dimensions built in and read the others from the weights. The
built-in ones have their real size here.
"""

from __future__ import annotations

from pathlib import Path

from diffusers import AutoencoderKL, OvisImageTransformer2DModel
from safetensors.torch import save_file
from transformers import Qwen3Config, Qwen3Model

from tiny.models import TEXT_WIDTH, randomize
from tiny.names import comfyui_transformer, flux_vae, original_transformer

TRANSFORMER = "ovis_image.safetensors"
TEXT_ENCODER = "ovis_2.5.safetensors"
VAE = "ae.safetensors"

QWEN3_VOCABULARY = 151936
"""The full vocabulary, because ComfyUI's tokenizer for Qwen models is the real one."""

TEXT_GEOMETRY = {
    "hidden_size": TEXT_WIDTH,
    "intermediate_size": 3 * TEXT_WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
}
"""The text encoder's geometry, which ComfyUI must be told (``comfy_test_pack``)."""


def write(models: Path) -> None:
    """Writes transformer, text encoder and VAE; always the same bytes."""
    transformer = OvisImageTransformer2DModel(
        in_channels=64,
        out_channels=64,
        num_layers=2,
        num_single_layers=2,
        attention_head_dim=128,
        num_attention_heads=1,
        joint_attention_dim=TEXT_WIDTH,
        axes_dims_rope=(16, 56, 56),
    )
    text_encoder = Qwen3Model(
        Qwen3Config(
            vocab_size=QWEN3_VOCABULARY,
            max_position_embeddings=40960,
            rms_norm_eps=1e-6,
            rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
            attention_bias=False,
            **TEXT_GEOMETRY,
        )
    )
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=16,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    for seed, module in enumerate((transformer, text_encoder, vae), 3):
        randomize(module, seed)
    text_weights = {f"model.{name}": t for name, t in text_encoder.state_dict().items()}
    files = {
        f"diffusion_models/{TRANSFORMER}": comfyui_transformer(
            original_transformer(transformer.state_dict())
        ),
        f"text_encoders/{TEXT_ENCODER}": text_weights,
        f"vae/{VAE}": flux_vae(vae.state_dict()),
    }
    for path, tensors in files.items():
        (models / path).parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, models / path)
