"""Tensor names and orders of the original release, from those of diffusers.

Sources: AIDC-AI/Ovis-Image `ovis_image/model/layers.py` and `autoencoder.py`, which
define the original names; diffusers `transformer_ovis_image.py`, `embeddings.py`
and `vae.py`, which define the others.
"""

import re

import torch

Tensors = dict[str, torch.Tensor]

_PLAIN = {
    "timestep_embedder.linear_1": "time_in.in_layer",
    "timestep_embedder.linear_2": "time_in.out_layer",
    "context_embedder_norm": "semantic_txt_norm",
    "context_embedder": "semantic_txt_in",
    "x_embedder": "img_in",
    "proj_out": "final_layer.linear",
}
_DOUBLE = {
    "norm1.linear": "img_mod.lin",
    "norm1_context.linear": "txt_mod.lin",
    "attn.norm_q": "img_attn.norm.query_norm",
    "attn.norm_k": "img_attn.norm.key_norm",
    "attn.norm_added_q": "txt_attn.norm.query_norm",
    "attn.norm_added_k": "txt_attn.norm.key_norm",
    "attn.to_out.0": "img_attn.proj",
    "attn.to_add_out": "txt_attn.proj",
    "ff.net.2": "img_mlp.down_proj",
    "ff_context.net.2": "txt_mlp.down_proj",
}
_SINGLE = {
    "norm.linear": "modulation.lin",
    "attn.norm_q": "norm.query_norm",
    "attn.norm_k": "norm.key_norm",
    "proj_out": "linear2",
}


def original_transformer(source: Tensors) -> Tensors:
    """The transformer under the names of `ovis_image.safetensors`."""
    rest = dict(source)
    out: Tensors = {}

    def move(old: str, new: str) -> None:
        for kind in ("weight", "bias"):
            if f"{old}.{kind}" in rest:
                out[f"{new}.{kind}"] = rest.pop(f"{old}.{kind}")

    def join(olds: list[str], new: str) -> None:
        for kind in ("weight", "bias"):
            out[f"{new}.{kind}"] = torch.cat([rest.pop(f"{old}.{kind}") for old in olds])

    for old, new in _PLAIN.items():
        move(old, new)
    for kind in ("weight", "bias"):
        # diffusers chunks (scale, shift), the original (shift, scale).
        scale, shift = rest.pop(f"norm_out.linear.{kind}").chunk(2)
        out[f"final_layer.adaLN_modulation.1.{kind}"] = torch.cat([shift, scale])
    for index in _indices(source, "transformer_blocks"):
        old_block, new_block = f"transformer_blocks.{index}", f"double_blocks.{index}"
        for old, new in _DOUBLE.items():
            move(f"{old_block}.{old}", f"{new_block}.{new}")
        image = [f"{old_block}.attn.to_{letter}" for letter in "qkv"]
        text = [f"{old_block}.attn.add_{letter}_proj" for letter in "qkv"]
        join(image, f"{new_block}.img_attn.qkv")
        join(text, f"{new_block}.txt_attn.qkv")
        for old, new in (("ff", "img_mlp"), ("ff_context", "txt_mlp")):
            for kind in ("weight", "bias"):
                # diffusers' SwiGLU multiplies its first half by silu of its second.
                up, gate = rest.pop(f"{old_block}.{old}.net.0.proj.{kind}").chunk(2)
                out[f"{new_block}.{new}.up_proj.{kind}"] = up.contiguous()
                out[f"{new_block}.{new}.gate_proj.{kind}"] = gate.contiguous()
    for index in _indices(source, "single_transformer_blocks"):
        old_block, new_block = f"single_transformer_blocks.{index}", f"single_blocks.{index}"
        for old, new in _SINGLE.items():
            move(f"{old_block}.{old}", f"{new_block}.{new}")
        # proj_mlp is (up, gate) on both sides.
        inputs = [f"{old_block}.attn.to_{letter}" for letter in "qkv"] + [f"{old_block}.proj_mlp"]
        join(inputs, f"{new_block}.linear1")
    assert not rest, f"no original name for {sorted(rest)}"
    return out


def comfyui_transformer(original: Tensors) -> Tensors:
    """The transformer under the names of ComfyUI's split file, from the original's."""
    renamed = {}
    for name, tensor in original.items():
        name = name.removeprefix("semantic_")
        renamed[re.sub(r"((?:query|key|txt)_norm)\.weight$", r"\1.scale", name)] = tensor
    return renamed


def flux_vae(source: Tensors) -> Tensors:
    """The autoencoder under FLUX.1's names, as in `ae.safetensors`."""
    levels = 1 + max(int(name.split(".")[2]) for name in source if "up_blocks" in name)
    out: Tensors = {}
    for name, tensor in source.items():
        new = re.sub(r"down_blocks\.(\d+)\.resnets", r"down.\1.block", name)
        new = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", new)
        # diffusers numbers up blocks in execution order, FLUX.1 from full resolution.
        new = re.sub(
            r"up_blocks\.(\d+)\.(resnets|upsamplers\.0)",
            lambda m: f"up.{levels - 1 - int(m[1])}.{'block' if m[2] == 'resnets' else 'upsample'}",
            new,
        )
        new = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", new)
        new = new.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        if "mid_block.attentions.0" in new:
            new = new.replace("mid_block.attentions.0", "mid.attn_1")
            new = new.replace("group_norm", "norm").replace("to_out.0", "proj_out")
            new = re.sub(r"\.to_([qkv])\.", r".\1.", new)
            if tensor.ndim == 2:  # a linear layer in diffusers, a 1x1 convolution in FLUX.1
                tensor = tensor[:, :, None, None]
        out[new] = tensor.contiguous()
    return out


def _indices(source: Tensors, prefix: str) -> range:
    return range(1 + max(int(n.split(".")[1]) for n in source if n.startswith(f"{prefix}.")))
