"""Adapters on resident weights give the latents of weights that their trainers merged.

The references are peft's `merge_and_unload`, LyCORIS's own layers and the formula of LoRA, as for
`ovis-worker merge`; here their weights are loaded as a model.
"""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from peft import get_peft_model
from safetensors.torch import load_file

from adapter_files import (
    LAYOUTS,
    Draw,
    Tensors,
    kohya_names,
    linear_shapes,
    loras,
    matrix_shapes,
    merge,
    merged,
    peft_names,
    write,
)
from applied_adapters import latents, of_weights, run
from gguf_files import Kind, matrices
from gguf_files import write as write_gguf
from reference import relative_error
from test_adapter_kinds import (
    LYCORIS,
    NAME,
    PEFT,
    STEM,
    base,
    cores,
    folder,
    lycoris_weights,
    model_of,
    randomize,
)

TOLERANCE = 1e-5
"""Largest difference of latents after two guided steps in float32, relative to their norm."""


FIXTURES = (base, folder)  # pytest finds them by name


@pytest.fixture(scope="module")
def plain(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> torch.Tensor:
    """The latents without adapters."""
    return latents(tmp_path_factory.mktemp("plain"), model=tiny / "diffusers")


@pytest.fixture(scope="module")
def pairs(folder: Path) -> dict[str, tuple]:
    """A LoRA of every linear layer of the transformer, under diffusers' names."""
    return loras(linear_shapes(model_of(folder)))


def same(found: torch.Tensor, wanted: torch.Tensor, plain: torch.Tensor) -> None:
    assert relative_error(found, wanted) <= TOLERANCE
    assert relative_error(plain, wanted) > 100 * TOLERANCE


@pytest.mark.parametrize("kind", PEFT)
def test_peft(kind: str, tiny: Path, folder: Path, base: Tensors, plain, tmp_path: Path) -> None:
    model = get_peft_model(model_of(folder), copy.deepcopy(PEFT[kind]))
    adapted = {n: p for n, p in model.named_parameters() if ".base_layer." not in n}
    randomize({n: p for n, p in adapted.items() if n not in base and p.requires_grad}, 1, 0.1)
    model.save_pretrained(tmp_path / "adapter")
    wanted = model.merge_and_unload().state_dict()
    wanted = of_weights(tmp_path, {name: wanted[name] for name in base}, model=tiny / "diffusers")
    found = latents(tmp_path, [tmp_path / "adapter"], model=tiny / "diffusers")
    same(found, wanted, plain)
    # The same adapter on the fused rows of the other layout.
    found = latents(tmp_path, [tmp_path / "adapter"], model=tiny / "original")
    same(found, wanted, plain)


@pytest.mark.parametrize("kind", LYCORIS)
def test_lycoris(kind: str, tiny: Path, folder: Path, base: Tensors, plain, tmp_path: Path) -> None:
    state, weights = lycoris_weights(folder, LYCORIS[kind], seed=3)
    file = write(tmp_path / "lycoris.safetensors", state)
    wanted = of_weights(tmp_path, base | weights, model=tiny / "diffusers")
    same(latents(tmp_path, [file], model=tiny / "diffusers"), wanted, plain)
    merge(folder, tmp_path / "transformer.safetensors", f"{file}=0.6")
    transformer = {"model": tiny / "diffusers", "transformer": tmp_path / "transformer.safetensors"}
    wanted = latents(tmp_path, **transformer)
    same(latents(tmp_path, [f"{file}=0.6"], model=tiny / "diffusers"), wanted, plain)


@pytest.mark.parametrize("kind", cores())
def test_cores(kind: str, tiny: Path, base: Tensors, plain, tmp_path: Path) -> None:
    tensors, delta = cores()[kind]
    tensors = {f"{STEM}.{name}": tensor for name, tensor in tensors.items()}
    file = write(tmp_path / "lora.safetensors", tensors)
    wanted = base | {f"{NAME}.weight": base[f"{NAME}.weight"] + delta}
    wanted = of_weights(tmp_path, wanted, model=tiny / "diffusers")
    same(latents(tmp_path, [file], model=tiny / "diffusers"), wanted, plain)


@pytest.mark.parametrize("layout", ["diffusers", "peft", "kohya", "OneTrainer", "LyCORIS"])
def test_layouts(layout: str, tiny: Path, base: Tensors, pairs, plain, tmp_path: Path) -> None:
    file = write(tmp_path / "lora.safetensors", LAYOUTS[layout](pairs))
    wanted = of_weights(tmp_path, merged(base, pairs), model=tiny / "diffusers")
    for model in ("diffusers", "original", "comfyui"):
        same(latents(tmp_path, [file], model=tiny / model), wanted, plain)


@pytest.mark.parametrize("names", [peft_names, lambda pairs: kohya_names(pairs, "lora_unet_")])
def test_names_of_the_original(names, tiny: Path, plain, tmp_path: Path) -> None:
    base = load_file(tiny / "original" / "ovis_image.safetensors")
    pairs = loras(matrix_shapes(base), seed=1)
    file = write(tmp_path / "lora.safetensors", names(pairs))
    wanted = of_weights(tmp_path, merged(base, pairs), model=tiny / "original")
    for model in ("diffusers", "original", "comfyui"):
        same(latents(tmp_path, [file], model=tiny / model), wanted, plain)


def test_norms_and_biases(tiny: Path, base: Tensors, plain, tmp_path: Path) -> None:
    draw = Draw(6)
    block = "transformer_blocks.0.attn"
    stem = "lycoris_transformer_blocks_0_attn"
    deltas = {
        f"{block}.norm_added_k.weight": draw(32),
        "context_embedder_norm.weight": draw(64),
        f"{block}.to_q.bias": draw(64),
    }
    tensors = {
        f"{stem}_norm_added_k.w_norm": deltas[f"{block}.norm_added_k.weight"],
        "lycoris_context_embedder_norm.diff": deltas["context_embedder_norm.weight"],
        f"{stem}_to_q.diff_b": deltas[f"{block}.to_q.bias"],
    }
    file = write(tmp_path / "norms.safetensors", tensors)
    wanted = base | {name: base[name] + 0.5 * delta for name, delta in deltas.items()}
    wanted = of_weights(tmp_path, wanted, model=tiny / "diffusers")
    same(latents(tmp_path, [f"{file}=0.5"], model=tiny / "diffusers"), wanted, plain)


def test_text_encoders(tiny: Path, plain, tmp_path: Path) -> None:
    (weights,) = (tiny / "diffusers" / "text_encoder").glob("*.safetensors")
    base = load_file(weights)
    shapes = {n: s for n, s in matrix_shapes(base).items() if "embed_tokens" not in n}
    pairs = loras(shapes, seed=2)
    tensors = peft_names(pairs, "text_encoder.")
    tensors["lora_te_norm.diff"] = Draw(8)(64)
    file = write(tmp_path / "lora.safetensors", tensors)
    changed = merged(base, pairs, 0.4)
    changed["norm.weight"] = base["norm.weight"] + 0.4 * tensors["lora_te_norm.diff"]
    wanted = of_weights(tmp_path, changed, "text_encoder", model=tiny / "diffusers")
    same(latents(tmp_path, [f"{file}=0.4"], model=tiny / "diffusers"), wanted, plain)
    own = latents(tmp_path, [file], model=tiny / "diffusers", lora_text=0.4)
    assert torch.equal(own, latents(tmp_path, [f"{file}=0.4"], model=tiny / "diffusers"))
    off = latents(tmp_path, [file], model=tiny / "diffusers", lora_text=0)
    assert torch.equal(off, plain)


def stacked(folder: Path, pairs: dict, out: Path) -> list[str]:
    """Adapters of several kinds on the same layers, DoRA among and after others."""
    others = loras({name: (up.shape[0], down.shape[1]) for name, (down, up) in pairs.items()}, 2, 3)
    first = write(out / "first.safetensors", peft_names(pairs))
    second = write(out / "second.safetensors", kohya_names(others, "lora_unet_", alpha=1.0))
    dora = write(out / "dora.safetensors", lycoris_weights(folder, LYCORIS["DoRA"], seed=5)[0])
    return [f"{first}=0.5", f"{dora}=0.8", f"{second}=-2", f"{dora}=0.3"]


def test_stacks(tiny: Path, folder: Path, pairs, plain, tmp_path: Path) -> None:
    stack = stacked(folder, pairs, tmp_path)
    merge(folder, tmp_path / "transformer.safetensors", *stack)
    transformer = {"model": tiny / "diffusers", "transformer": tmp_path / "transformer.safetensors"}
    same(
        latents(tmp_path, stack, model=tiny / "diffusers"), latents(tmp_path, **transformer), plain
    )
    lokr = lycoris_weights(folder, LYCORIS["BOFT"], seed=6)[0]
    stack.insert(2, str(write(tmp_path / "boft.safetensors", lokr)))
    merge(folder, tmp_path / "transformer.safetensors", *stack)
    same(
        latents(tmp_path, stack, model=tiny / "diffusers"), latents(tmp_path, **transformer), plain
    )


def test_strength_zero_changes_no_bit(tiny: Path, pairs, plain, tmp_path: Path) -> None:
    file = write(tmp_path / "lora.safetensors", peft_names(pairs))
    assert torch.equal(latents(tmp_path, [f"{file}=0"], model=tiny / "diffusers"), plain)


def test_blocks_have_weights(tiny: Path, base: Tensors, pairs, plain, tmp_path: Path) -> None:
    blocks = ("transformer_blocks.", "single_transformer_blocks.")
    double, single = (
        len({n.split(".")[1] for n in base if n.startswith(block)}) for block in blocks
    )
    weights = [0.1 * (i + 1) for i in range(double + single)]

    def weight(name: str) -> float:
        if name.startswith(blocks[0]):
            return weights[int(name.split(".")[1])]
        return weights[double + int(name.split(".")[1])] if name.startswith(blocks[1]) else 1.0

    file = write(tmp_path / "lora.safetensors", peft_names(pairs))
    scaled = {name: (down, weight(name) * up) for name, (down, up) in pairs.items()}
    wanted = of_weights(tmp_path, merged(base, scaled), model=tiny / "diffusers")
    listed = ",".join(map(str, weights))
    found = latents(tmp_path, [file], model=tiny / "diffusers", lora_blocks=listed)
    same(found, wanted, plain)
    result = run(tmp_path, [file], model=tiny / "diffusers", lora_blocks="1,1,1,1,1,1,1,1,1")
    assert result.returncode == 1
    assert f"weights for 9 blocks, and the model has {double + single}" in result.stderr


def test_sigmas_have_an_interval(tiny: Path, pairs, plain, tmp_path: Path) -> None:
    file = write(tmp_path / "lora.safetensors", peft_names(pairs))
    model = {"model": tiny / "diffusers"}
    full = latents(tmp_path, [file], **model)
    always = latents(tmp_path, [file], lora_sigmas="1,0", **model)
    assert torch.equal(always, full)
    assert torch.equal(latents(tmp_path, [file], lora_sigmas="0.001,0", **model), plain)
    # Two steps: the first is at sigma 1. Without the second, both runs end alike.
    first = latents(tmp_path, [file], lora_sigmas="1,0.9", **model)
    assert relative_error(first, full) > 1e-3 and relative_error(first, plain) > 1e-3
    both = latents(tmp_path, [file, file], lora_sigmas=["1,0.9", "0.9,0"], **model)
    assert relative_error(both, full) <= TOLERANCE
    result = run(tmp_path, [file], lora_sigmas="0.1,0.5", **model)
    assert (
        result.returncode == 1 and "from sigma 0.1 to 0.5 is not a part of 1 to 0" in result.stderr
    )


def test_packed_weights(wide: Path, tmp_path: Path) -> None:
    source = load_file(wide / "original" / "ovis_image.safetensors")
    pairs = loras(matrix_shapes(source), seed=1)
    file = write(tmp_path / "lora.safetensors", peft_names(pairs))
    stored = write_gguf(tmp_path / "ovis.gguf", source, matrices(Kind.Q8_0), arch="flux")
    model = {"model": wide / "diffusers"}
    plain = latents(tmp_path, transformer=tmp_path / "ovis.gguf", **model)
    wanted = of_weights(tmp_path, merged(stored, pairs), **model)
    same(latents(tmp_path, [file], transformer=tmp_path / "ovis.gguf", **model), wanted, plain)
    # A kind that gives the layers weights of their own.
    shapes = matrix_shapes({n: t for n, t in source.items() if "linear1" in n})
    deltas = {f"{name}.diff": Draw(7)(*shape) for name, shape in shapes.items()}
    file = write(tmp_path / "full.safetensors", deltas)
    changed = {f"{n}.weight": stored[f"{n}.weight"] + deltas[f"{n}.diff"] for n in shapes}
    wanted = of_weights(tmp_path, stored | changed, **model)
    same(latents(tmp_path, [file], transformer=tmp_path / "ovis.gguf", **model), wanted, plain)


def test_bf16(tiny: Path, base: Tensors, pairs, tmp_path: Path) -> None:
    half = {name: tensor.to(torch.bfloat16).float() for name, tensor in base.items()}
    file = write(tmp_path / "lora.safetensors", peft_names(pairs))
    wanted = of_weights(tmp_path, merged(half, pairs), model=tiny / "diffusers")
    found = latents(tmp_path, [file], model=tiny / "diffusers", precision="bf16")
    # The text encoder's weights are rounded too, and nothing else: the adapter is not.
    assert relative_error(found, wanted) <= 2e-2


def test_refusals(tiny: Path, pairs, tmp_path: Path) -> None:
    model = {"model": tiny / "diffusers"}
    tensors = peft_names(pairs) | {"transformer.other.lora_A.weight": torch.zeros(1, 1)}
    file = write(tmp_path / "lora.safetensors", tensors)
    result = run(tmp_path, [file], **model)
    assert result.returncode == 1 and "1 of the" in result.stderr
    assert "--lora-strict off" in result.stderr
    result = run(tmp_path, [file], lora_strict="off", **model)
    assert result.returncode == 0 and "are left out, such as" in result.stderr
    result = run(tmp_path, [tmp_path / "none.safetensors"], **model)
    assert result.returncode == 1 and "there is no adapter" in result.stderr
    result = run(tmp_path, [file], lora_text=[1, 2], **model)
    assert result.returncode == 1 and "--lora-text is given 2 times for 1 adapters" in result.stderr
