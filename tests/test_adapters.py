"""Adapters in every layout of names merge into the same weights, whatever the model's layout.

The reference is peft on the diffusers model (`load_lora_adapter`), and the formula of LoRA on the
tensors of the other layouts.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import OvisImageTransformer2DModel
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file

from adapter_files import (
    LAYOUTS,
    TOLERANCE,
    Draw,
    changed,
    difference,
    inspect,
    kohya_names,
    linear_shapes,
    loras,
    matrix_shapes,
    merge,
    merged,
    peft_names,
    try_merge,
    write,
)
from tiny import names

FILE = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def diffusers_file(tiny: Path) -> Path:
    return tiny / "diffusers" / "transformer" / FILE


@pytest.fixture(scope="module")
def comfyui_file(tiny: Path) -> Path:
    return tiny / "comfyui/models/diffusion_models/ovis_image_f32.safetensors"


@pytest.fixture(scope="module")
def original_file(tiny: Path) -> Path:
    return tiny / "original/ovis_image.safetensors"


@pytest.fixture(scope="module")
def pairs(tiny: Path) -> dict[str, tuple]:
    """A LoRA of every linear layer of the transformer, under diffusers' names."""
    model = OvisImageTransformer2DModel.from_pretrained(tiny / "diffusers" / "transformer")
    return loras(linear_shapes(model))


@pytest.fixture(scope="module")
def by_peft(tiny: Path, pairs: dict[str, tuple]) -> dict[str, torch.Tensor]:
    """The diffusers model with that LoRA, merged by peft."""
    model = OvisImageTransformer2DModel.from_pretrained(tiny / "diffusers" / "transformer")
    before = set(model.state_dict())
    model.load_lora_adapter(peft_names(pairs, "transformer."), prefix="transformer")
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            module.merge()
    state = {n.replace(".base_layer", ""): t for n, t in model.state_dict().items()}
    return {name: state[name] for name in before}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_names_of_diffusers_in_every_layout(
    layout: str, pairs: dict, by_peft: dict, diffusers_file: Path, tmp_path: Path
) -> None:
    file = write(tmp_path / "lora.safetensors", LAYOUTS[layout](pairs))
    found = merge(diffusers_file, tmp_path / "out.safetensors", file)
    assert difference(found, by_peft) <= TOLERANCE
    base = load_file(diffusers_file)
    assert changed(found, base) == {f"{name}.weight" for name in pairs}


def test_names_of_diffusers_on_fused_rows(
    pairs: dict, by_peft: dict, comfyui_file: Path, original_file: Path, tmp_path: Path
) -> None:
    file = write(tmp_path / "lora.safetensors", peft_names(pairs, "transformer."))
    original = names.original_transformer(by_peft)
    found = merge(original_file, tmp_path / "original.safetensors", file)
    assert difference(found, original) <= TOLERANCE
    found = merge(comfyui_file, tmp_path / "comfyui.safetensors", file)
    assert difference(found, names.comfyui_transformer(original)) <= TOLERANCE


ORIGINAL_LAYOUTS = {
    "ComfyUI": lambda pairs: peft_names(pairs, "diffusion_model."),
    "original": lambda pairs: peft_names(pairs),
    "kohya": lambda pairs: kohya_names(pairs, "lora_unet_"),
    "LyCORIS": lambda pairs: kohya_names(pairs, "lycoris_"),
}


@pytest.mark.parametrize("layout", ORIGINAL_LAYOUTS)
def test_names_of_the_original(
    layout: str, original_file: Path, comfyui_file: Path, diffusers_file: Path, tmp_path: Path
) -> None:
    base = load_file(original_file)
    pairs = loras(matrix_shapes(base), seed=1)
    file = write(tmp_path / "lora.safetensors", ORIGINAL_LAYOUTS[layout](pairs))
    wanted = merged(base, pairs)
    found = merge(original_file, tmp_path / "original.safetensors", file)
    assert difference(found, wanted) <= TOLERANCE
    found = merge(comfyui_file, tmp_path / "comfyui.safetensors", file)
    assert difference(found, names.comfyui_transformer(wanted)) <= TOLERANCE
    found = merge(diffusers_file, tmp_path / "diffusers.safetensors", file)
    assert difference(names.original_transformer(found), wanted) <= TOLERANCE


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_types(dtype: torch.dtype, original_file: Path, tmp_path: Path) -> None:
    base = load_file(original_file)
    pairs = loras(matrix_shapes(base))
    pairs = {name: tuple(t.to(dtype) for t in pair) for name, pair in pairs.items()}
    file = write(tmp_path / "lora.safetensors", kohya_names(pairs, "lora_unet_", alpha=2.0))
    found = merge(original_file, tmp_path / "out.safetensors", file)
    assert difference(found, merged(base, pairs, scale=0.5)) <= TOLERANCE


def test_the_models_types_are_kept(diffusers_file: Path, pairs: dict, tmp_path: Path) -> None:
    half = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(diffusers_file).items()}
    model = write(tmp_path / "model.safetensors", half)
    file = write(tmp_path / "lora.safetensors", peft_names(pairs))
    found = merge(model, tmp_path / "out.safetensors", file)
    # `merged` rounds to bfloat16 once; a sum beside the middle of two numbers may differ by one
    # step of 2^-8.
    assert difference(found, merged(half, pairs)) <= 2**-8
    same = {n: torch.equal(found[n], t) for n, t in merged(half, pairs).items()}
    assert sum(same.values()) >= len(same) - 2, [n for n in same if not same[n]]


TEXT_LAYOUTS = {
    "diffusers": lambda pairs: peft_names(pairs, "text_encoder.model."),
    "diffusers, bare model": lambda pairs: peft_names(pairs, "text_encoder."),
    "peft": lambda pairs: peft_names(pairs, "base_model.model."),
    "kohya": lambda pairs: kohya_names(pairs, "lora_te_", alpha=4.0),
    "kohya, first of several": lambda pairs: kohya_names(pairs, "lora_te1_model_", alpha=4.0),
    "ComfyUI": lambda pairs: peft_names(pairs, "text_encoders.qwen3_2b.transformer.model."),
}


@pytest.mark.parametrize("layout", TEXT_LAYOUTS)
def test_text_encoders(layout: str, tiny: Path, tmp_path: Path) -> None:
    model = tiny / "diffusers" / "text_encoder"
    (weights,) = model.glob("*.safetensors")
    base = load_file(weights)
    shapes = {n: s for n, s in matrix_shapes(base).items() if "embed_tokens" not in n}
    pairs = loras(shapes, seed=2)
    file = write(tmp_path / "lora.safetensors", TEXT_LAYOUTS[layout](pairs))
    found = merge(model, tmp_path / "out.safetensors", file)
    assert difference(found, merged(base, pairs)) <= TOLERANCE
    # Ovis2.5's other tensors are kept.
    ovis = tiny / "original" / "Ovis2.5-2B"
    found = merge(ovis, tmp_path / "ovis.safetensors", file)
    before = {n: t for f in ovis.glob("*.safetensors") for n, t in load_file(f).items()}
    assert changed(found, before) == {f"llm.model.{name}.weight" for name in pairs}


def test_both_parts_in_one_adapter(
    pairs: dict, by_peft: dict, tiny: Path, diffusers_file: Path, tmp_path: Path
) -> None:
    draw = Draw()
    text = {"layers.0.self_attn.q_proj": (draw(4, 64), draw(64, 4))}
    tensors = peft_names(pairs, "transformer.") | peft_names(text, "text_encoder.")
    file = write(tmp_path / "lora.safetensors", tensors)
    result = try_merge(diffusers_file, tmp_path / "out.safetensors", file)
    assert result.returncode == 0
    assert "2 tensors of" in result.stderr and "change the text encoder" in result.stderr
    assert difference(load_file(tmp_path / "out.safetensors"), by_peft) <= TOLERANCE
    only_text = write(tmp_path / "text.safetensors", peft_names(text, "text_encoder."))
    result = try_merge(diffusers_file, tmp_path / "x.safetensors", only_text)
    assert result.returncode == 1
    assert "changes nothing in the transformer" in result.stderr


def test_strengths_and_stacks(pairs: dict, diffusers_file: Path, tmp_path: Path) -> None:
    base = load_file(diffusers_file)
    first = write(tmp_path / "first=1.safetensors", peft_names(pairs))
    others = loras({name: (up.shape[0], down.shape[1]) for name, (down, up) in pairs.items()}, 2, 3)
    second = write(tmp_path / "second.safetensors", kohya_names(others, "lora_unet_", alpha=1.0))
    out = tmp_path / "out.safetensors"
    found = merge(diffusers_file, out, f"{first}=0.5", f"{second}=-2")
    wanted = merged(merged(base, pairs, 0.5), others, -2 * 0.5)
    assert difference(found, wanted) <= TOLERANCE
    # The same file again: the order of the two sums is all that differs.
    again = merge(diffusers_file, out, f"{second}=-2", f"{first}=0.5")
    assert difference(again, wanted) <= TOLERANCE
    assert changed(merge(diffusers_file, out, f"{first}=0"), base) == set()
    assert difference(merge(diffusers_file, out, first), merged(base, pairs)) <= TOLERANCE


def test_the_model_may_be_written_over(pairs: dict, diffusers_file: Path, tmp_path: Path) -> None:
    base = load_file(diffusers_file)
    model = write(tmp_path / "model.safetensors", base)
    file = write(tmp_path / "lora.safetensors", peft_names(pairs))
    assert difference(merge(model, model, file), merged(base, pairs)) <= TOLERANCE
    assert {path.name for path in tmp_path.iterdir()} == {model.name, file.name}


def test_alpha_of_metadata(pairs: dict, diffusers_file: Path, tmp_path: Path) -> None:
    base = load_file(diffusers_file)
    name = "transformer_blocks.0.attn.to_q"
    settings = {
        "transformer.r": 4,
        "transformer.lora_alpha": 2,
        "transformer.alpha_pattern": {"attn.to_q": 8},
    }
    metadata = {"lora_adapter_metadata": json.dumps(settings)}
    tensors = peft_names(pairs, "transformer.")
    file = write(tmp_path / "lora.safetensors", tensors, metadata)
    wanted = merged(base, pairs, 0.5)
    queries = {n: pair for n, pair in pairs.items() if n.endswith("attn.to_q")}
    wanted |= {f"{n}.weight": merged(base, queries, 2.0)[f"{n}.weight"] for n in queries}
    assert name in queries
    found = merge(diffusers_file, tmp_path / "out.safetensors", file)
    assert difference(found, wanted) <= TOLERANCE
    kohya = kohya_names(pairs, "lora_unet_")
    file = write(tmp_path / "kohya.safetensors", kohya, {"ss_network_alpha": "1.0"})
    found = merge(diffusers_file, tmp_path / "out.safetensors", file)
    assert difference(found, merged(base, pairs, 0.25)) <= TOLERANCE


def test_what_fits_nothing_is_named(pairs: dict, diffusers_file: Path, tmp_path: Path) -> None:
    extra = {f"transformer.other_blocks.{n}.lora_A.weight": torch.zeros(1, 1) for n in range(4)}
    file = write(tmp_path / "lora.safetensors", peft_names(pairs, "transformer.") | extra)
    out = tmp_path / "out.safetensors"
    result = try_merge(diffusers_file, out, file)
    assert result.returncode == 1 and not out.exists()
    error, hint = result.stderr.splitlines()
    total = 2 * len(pairs) + 4
    assert f"4 of the {total} tensors in `{file}` fit no part of Ovis-Image" in error
    assert error.count("other_blocks") == 3 and "--lora-strict off" in hint
    found = merge(diffusers_file, out, file, lora_strict="off")
    assert difference(found, merged(load_file(diffusers_file), pairs)) <= TOLERANCE
    report = inspect(file)
    assert report["unused"] == sorted(extra)


def test_inspect(pairs: dict, tiny: Path, diffusers_file: Path, tmp_path: Path) -> None:
    metadata = {
        "modelspec.title": "Neon",
        "modelspec.trigger_phrase": "neon, glow",
        "ss_base_model_version": "ovis_image_7b",
    }
    half = {n: (down.half(), up.half()) for n, (down, up) in pairs.items()}
    file = write(tmp_path / "lora.safetensors", kohya_names(half, "lora_unet_", 4.0), metadata)
    (tmp_path / "lora.preview.png").write_bytes(b"picture")
    report = inspect(file)
    assert report["kinds"] == {"LoRA": len(pairs)} and report["ranks"] == {"4": len(pairs)}
    assert report["dtypes"] == {"F16": 2 * len(pairs), "F32": len(pairs)}
    assert report["prefixes"] == {"lora_unet_": len(pairs)}
    assert len(report["transformer"]) == len(pairs) and report["text_encoder"] == []
    assert report["unused"] == [] and report["fits"] is None
    assert (report["name"], report["trigger_words"]) == ("Neon", ["neon", "glow"])
    assert report["base_model"] == "ovis_image_7b"
    assert report["preview"] == str(tmp_path / "lora.preview.png")
    assert inspect(file, transformer=diffusers_file)["fits"] is True
    wrong = dict(kohya_names(pairs, "lora_unet_"))
    wrong["lora_unet_x_embedder.lora_down.weight"] = torch.zeros(4, 63)
    wrong = write(tmp_path / "wrong.safetensors", wrong)
    report = inspect(wrong, transformer=diffusers_file)
    assert report["fits"] is False
    assert "`lora_A` of the shape [4, 63], not [4, 64]" in report["misfit"]


def test_a_model_is_no_adapter(diffusers_file: Path, tmp_path: Path) -> None:
    result = try_merge(diffusers_file, tmp_path / "out.safetensors", diffusers_file)
    assert result.returncode == 1 and "is no adapter" in result.stderr
    result = try_merge(diffusers_file, tmp_path / "out.safetensors")
    assert result.returncode == 1 and "no adapter" in result.stderr
