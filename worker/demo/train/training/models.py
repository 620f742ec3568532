"""The models, as classes of the reference libraries: building, loading, exporting."""

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    OvisImagePipeline,
    OvisImageTransformer2DModel,
)
from torch import nn
from transformers import Qwen2Tokenizer, Qwen3Config, Qwen3Model

from prompts import tokenizer as tokenizers

# FLUX.1's shift and scale of latents, the defaults where a checkpoint has no config.
SHIFT, SCALE = 0.1159, 0.3611

VOCAB_PADDING = 64
"""The number of rows of the embedding table is a multiple of this."""

LARGEST_FILE = "14MB"
"""Largest file of an exported transformer."""


@dataclass
class Models:
    """The three networks and the tokenizer."""

    transformer: OvisImageTransformer2DModel
    text_encoder: Qwen3Model
    vae: AutoencoderKL
    tokenizer: Qwen2Tokenizer


def build(config: dict) -> Models:
    """Models with initial weights from torch's current random state."""
    tokenizer = tokenizers.build()
    text = config["text_encoder"]
    transformer = OvisImageTransformer2DModel(
        in_channels=64,
        out_channels=64,
        joint_attention_dim=text["hidden_size"],
        **config["transformer"],
    )
    text_encoder = Qwen3Model(
        Qwen3Config(
            vocab_size=-(-len(tokenizer) // VOCAB_PADDING) * VOCAB_PADDING,
            max_position_embeddings=40960,
            rms_norm_eps=1e-6,
            rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
            attention_bias=False,
            tie_word_embeddings=True,
            use_cache=False,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
            bos_token_id=None,
            **text,
        )
    )
    channels = tuple(config["vae"]["block_out_channels"])
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        block_out_channels=channels,
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=32,
        sample_size=256,
        scaling_factor=SCALE,
        shift_factor=SHIFT,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=True,
    )
    _init_transformer(transformer)
    return Models(transformer, text_encoder, vae, tokenizer)


def scheduler() -> FlowMatchEulerDiscreteScheduler:
    """The scheduler of Ovis-Image."""
    return FlowMatchEulerDiscreteScheduler(
        num_train_timesteps=1000,
        shift=3.0,
        use_dynamic_shifting=True,
        base_shift=0.5,
        max_shift=1.15,
        base_image_seq_len=256,
        max_image_seq_len=4096,
    )


@torch.no_grad()
def _init_transformer(transformer: OvisImageTransformer2DModel) -> None:
    """Initializes as DiT does: every block starts as the identity, and the output as zero."""
    for name, module in transformer.named_modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
            if name == "proj_out" or name.endswith("norm_out.linear"):
                nn.init.zeros_(module.weight)
            if ".norm" in name and name.endswith(".linear"):  # the modulations
                nn.init.zeros_(module.weight)


def encode_prompts(text_encoder: Qwen3Model, ids: torch.Tensor, lengths: torch.Tensor):
    """Encodes prompts like the pipeline: [B, T, D], zero at padded positions.

    No attention mask is needed: padding comes last and attention is causal, so no other position
    attends to it.
    """
    # Without explicit positions, transformers creates them in every call.
    positions = torch.arange(ids.shape[1], device=ids.device)[None]
    # Without explicit masks, transformers looks for packed sequences, which waits for the device.
    masks = {"full_attention": None}
    # The embedding as a product with one-hot vectors: unlike that of a lookup, its gradient is a
    # product too, and does not wait for the device.
    table = text_encoder.embed_tokens.weight
    one_hot = ids[..., None] == torch.arange(len(table), device=ids.device)
    hidden = text_encoder(
        inputs_embeds=(one_hot.to(table.dtype) @ table).float(),
        position_ids=positions,
        attention_mask=masks,
    ).last_hidden_state
    real = torch.arange(ids.shape[1], device=ids.device)[None] < lengths[:, None]
    hidden = hidden * real[..., None]
    return hidden[:, tokenizers.PREFIX_POSITIONS :]


def text_ids(count: int, device: torch.device) -> torch.Tensor:
    """RoPE positions of text tokens: (0, i, i)."""
    ids = torch.arange(count, device=device, dtype=torch.float32)
    return torch.stack([torch.zeros_like(ids), ids, ids], dim=-1)


def image_ids(height: int, width: int, device: torch.device) -> torch.Tensor:
    """RoPE positions of image tokens, (0, y, x), for a grid of `height` x `width` tokens."""
    y, x = torch.meshgrid(
        torch.arange(height, device=device, dtype=torch.float32),
        torch.arange(width, device=device, dtype=torch.float32),
        indexing="ij",
    )
    return torch.stack([torch.zeros_like(x), y, x], dim=-1).reshape(-1, 3)


def pack(latents: torch.Tensor) -> torch.Tensor:
    """Packs [B, C, H, W] into tokens of 2 x 2: [B, H/2 * W/2, 4 C], like the pipeline."""
    batch, channels, height, width = latents.shape
    latents = latents.reshape(batch, channels, height // 2, 2, width // 2, 2)
    latents = latents.permute(0, 2, 4, 1, 3, 5)
    return latents.reshape(batch, height * width // 4, 4 * channels)


def export(folder: Path, models: Models) -> None:
    """Writes a checkpoint in the diffusers layout in bf16, with the transformer split into files
    of at most `LARGEST_FILE`."""
    parts = {
        name: copy.deepcopy(getattr(models, name)).to("cpu", torch.bfloat16).eval()
        for name in ("transformer", "text_encoder", "vae")
    }
    # A new tokenizer, because one that was used saves its last padding settings.
    pipeline = OvisImagePipeline(scheduler=scheduler(), tokenizer=tokenizers.build(), **parts)
    pipeline.save_pretrained(folder)
    transformer = folder / "transformer"
    for file in transformer.glob("*.safetensors*"):
        file.unlink()
    parts["transformer"].save_pretrained(transformer, max_shard_size=LARGEST_FILE)


def load(folder: Path, config: dict) -> Models:
    """Loads the models of a checkpoint in float32, to continue their training."""
    models = build(config)
    pipeline = OvisImagePipeline.from_pretrained(folder, torch_dtype=torch.float32)
    for name in ("transformer", "text_encoder", "vae"):
        getattr(models, name).load_state_dict(getattr(pipeline, name).state_dict())
    return models


def load_autoencoder(folder: Path, models: Models) -> None:
    """Loads the autoencoder of a checkpoint into `models`."""
    trained = AutoencoderKL.from_pretrained(folder, dtype=torch.float32)
    models.vae.load_state_dict(trained.state_dict())


def compile_blocks(models: Models) -> None:
    """Has the blocks of transformer and text encoder compiled, each shape when it is first used.
    Copies of the models are not compiled."""
    transformer = models.transformer
    blocks = (*transformer.transformer_blocks, *transformer.single_transformer_blocks)
    for block in (*blocks, *models.text_encoder.layers):
        block.compile(dynamic=False)
