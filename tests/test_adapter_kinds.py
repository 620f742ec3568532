"""Every kind of adapter merges into the weights that its trainer computes.

References: peft's `merge_and_unload` for what peft writes; LyCORIS's own `forward` for what LyCORIS
writes, with the weight read off as the layer's output for the identity; and the formulas of
ComfyUI's `comfy/weight_adapter` for the forms that no trainer writes for linear layers.
"""

from __future__ import annotations

import copy
import logging
import re
from pathlib import Path

import pytest
import torch
from diffusers import OvisImageTransformer2DModel
from lycoris import LycorisNetwork, create_lycoris
from peft import LoHaConfig, LoKrConfig, LoraConfig, OFTConfig, PeftConfig, get_peft_model
from safetensors.torch import load_file
from torch import nn

from adapter_files import (
    TOLERANCE,
    Draw,
    Tensors,
    changed,
    difference,
    inspect,
    merge,
    try_merge,
    write,
)

logging.getLogger("LyCORIS").setLevel(logging.ERROR)

TARGETS = ["to_q", "to_add_out", "proj_mlp", "net.2", "linear_1", "norm_out.linear"]
"""Linear layers of different shapes, one with exchanged halves in the original's order."""
MODULES = 14
"""How many there are in the tiny model."""


@pytest.fixture(scope="module")
def folder(tiny: Path) -> Path:
    return tiny / "diffusers" / "transformer"


@pytest.fixture(scope="module")
def base(folder: Path) -> Tensors:
    (file,) = folder.glob("*.safetensors")
    return load_file(file)


def model_of(folder: Path) -> OvisImageTransformer2DModel:
    return OvisImageTransformer2DModel.from_pretrained(folder).requires_grad_(False)


def randomize(parameters: dict[str, nn.Parameter], seed: int, scale: float) -> None:
    """Gives parameters values that differ from those that change nothing."""
    draw = Draw(seed)
    for _, parameter in sorted(parameters.items()):
        parameter.data += draw(*parameter.shape, scale=scale)


def targets(**options: object) -> dict:
    return {"target_modules": TARGETS, **options}


PEFT: dict[str, PeftConfig] = {
    "LoRA": LoraConfig(r=4, lora_alpha=6, init_lora_weights=False, **targets()),
    "LoRA with patterns": LoraConfig(
        r=4,
        lora_alpha=6,
        rank_pattern={"to_q": 2},
        alpha_pattern={"to_q": 5, "single_transformer_blocks.0.proj_mlp": 1},
        **targets(),
    ),
    "rsLoRA": LoraConfig(r=4, lora_alpha=6, use_rslora=True, **targets()),
    "LoRA with biases": LoraConfig(r=4, lora_alpha=6, lora_bias=True, **targets()),
    "DoRA": LoraConfig(r=4, lora_alpha=6, use_dora=True, **targets()),
    "LoHa": LoHaConfig(r=4, alpha=6, **targets()),
    "LoKr": LoKrConfig(r=4, alpha=6, **targets()),
    "LoKr of two products": LoKrConfig(
        r=2, alpha=6, decompose_both=True, decompose_factor=8, **targets()
    ),
    "LoKr of whole matrices": LoKrConfig(r=64, alpha=16, **targets()),
    "OFT": OFTConfig(r=0, oft_block_size=8, **targets()),
    "OFT, seven terms": OFTConfig(r=0, oft_block_size=8, num_cayley_neumann_terms=7, **targets()),
    "OFT, exact": OFTConfig(r=0, oft_block_size=16, use_cayley_neumann=False, **targets()),
    "OFT, shared block": OFTConfig(r=0, oft_block_size=8, block_share=True, **targets()),
    "COFT": OFTConfig(r=0, oft_block_size=8, coft=True, eps=0.5, **targets()),
}


@pytest.mark.parametrize("kind", PEFT)
def test_peft(kind: str, folder: Path, base: Tensors, tmp_path: Path) -> None:
    model = get_peft_model(model_of(folder), copy.deepcopy(PEFT[kind]))
    adapted = {n: p for n, p in model.named_parameters() if ".base_layer." not in n}
    randomize({n: p for n, p in adapted.items() if n not in base and p.requires_grad}, 1, 0.1)
    model.save_pretrained(tmp_path / "adapter")
    found = merge(folder, tmp_path / "out.safetensors", tmp_path / "adapter")
    wanted = model.merge_and_unload().state_dict()
    assert difference(found, {name: wanted[name] for name in base}) <= TOLERANCE
    weights = {name for name in changed(found, base) if name.endswith(".weight")}
    assert len(weights) == MODULES
    name = re.split("[ ,]", kind)[0]
    name = {"rsLoRA": "LoRA", "COFT": "OFT"}.get(name, name)
    assert list(inspect(tmp_path / "adapter")["kinds"]) == [name]


LYCORIS: dict[str, dict] = {
    "LoRA": {"algo": "lora", "linear_alpha": 3},
    "DoRA": {"algo": "lora", "dora_wd": True, "linear_alpha": 3},
    "DoRA of columns": {"algo": "lora", "dora_wd": True, "wd_on_output": False},
    "LoHa": {"algo": "loha", "linear_alpha": 3},
    "LoHa with magnitude": {"algo": "loha", "linear_alpha": 3, "dora_wd": True},
    "LoKr": {"algo": "lokr", "linear_alpha": 3},
    "LoKr of factor 4": {"algo": "lokr", "factor": 4, "linear_alpha": 3},
    "LoKr of two products": {"algo": "lokr", "factor": 8, "decompose_both": True, "linear_dim": 2},
    "LoKr of whole matrices": {"algo": "lokr", "full_matrix": True, "linear_alpha": 3},
    "LoKr with magnitude": {"algo": "lokr", "linear_alpha": 3, "dora_wd": True},
    "OFT": {"algo": "diag-oft", "linear_dim": 8},
    "OFT with rescale": {"algo": "diag-oft", "linear_dim": 8, "rescaled": True},
    "OFT with constraint": {"algo": "diag-oft", "linear_dim": 8, "constraint": 0.003},
    "BOFT": {"algo": "boft", "linear_dim": 8},
    "BOFT with rescale": {"algo": "boft", "linear_dim": 8, "rescaled": True},
    "full difference": {"algo": "full"},
}
WITHOUT_STRENGTHS = ("with rescale", "with magnitude", "DoRA", "full")
"""Kinds whose LyCORIS modules do not start from the model at strength 0, or have no strength."""


def lycoris_weights(
    folder: Path, options: dict, seed: int, multiplier: float = 1.0
) -> tuple[Tensors, Tensors]:
    """A LyCORIS adapter of the model, and the model's weights with it."""
    model = model_of(folder)
    torch.manual_seed(seed)  # LyCORIS draws some of the factors
    LycorisNetwork.apply_preset(
        {
            "target_module": [],
            "target_name": [f".*{name}" for name in TARGETS],
            "lora_prefix": "lycoris",
        }
    )
    network = create_lycoris(model, multiplier, **{"linear_dim": 4, **options})
    assert len(network.loras) == MODULES
    linears = {lora.lora_name: lora.org_module[0] for lora in network.loras}
    biases = {name: linear.bias.clone() for name, linear in linears.items()}
    names = {linear: name for name, linear in model.named_modules()}
    state, weights = {}, {}
    for number, lora in enumerate(network.loras):
        randomize(dict(lora.named_parameters()), seed + number, 0.1)
        linear = linears[lora.lora_name]
        lora.apply_to()
        state |= {f"{lora.lora_name}.{n}": t.clone() for n, t in lora.state_dict().items()}
        inputs = torch.eye(linear.in_features)
        with torch.no_grad():
            bias = linear(torch.zeros_like(inputs))
            weights[f"{names[linear]}.weight"] = (linear(inputs) - bias).T
        if not torch.equal(bias[0], biases[lora.lora_name]):
            weights[f"{names[linear]}.bias"] = bias[0]
    return state, weights


@pytest.mark.parametrize("kind", LYCORIS)
def test_lycoris(kind: str, folder: Path, base: Tensors, tmp_path: Path) -> None:
    state, weights = lycoris_weights(folder, LYCORIS[kind], seed=3)
    file = write(tmp_path / "lycoris.safetensors", state)
    out = tmp_path / "out.safetensors"
    assert difference(merge(folder, out, file), base | weights) <= TOLERANCE
    name = re.split(" of | with rescale| with constraint", kind)[0]
    assert list(inspect(file)["kinds"]) == [name]
    assert changed(merge(folder, out, f"{file}=0"), base) == set()
    if any(name in kind for name in WITHOUT_STRENGTHS):
        return
    _, weights = lycoris_weights(folder, LYCORIS[kind], seed=3, multiplier=0.6)
    assert difference(merge(folder, out, f"{file}=0.6"), base | weights) <= TOLERANCE


@pytest.mark.parametrize("kind", ["DoRA", "DoRA of columns", "LoHa with magnitude"])
def test_strength_of_a_magnitude_is_comfyuis(
    kind: str, folder: Path, base: Tensors, tmp_path: Path
) -> None:
    state, full = lycoris_weights(folder, LYCORIS[kind], seed=4)
    file = write(tmp_path / "lycoris.safetensors", state)
    wanted = dict(base)
    for name, weight in full.items():
        wanted[name] = base[name] + 0.4 * (weight - base[name])
    assert difference(merge(folder, tmp_path / "o.safetensors", f"{file}=0.4"), wanted) <= TOLERANCE


NAME = "single_transformer_blocks.0.proj_mlp"
STEM = "lora_unet_single_transformer_blocks_0_proj_mlp"
ROWS, COLUMNS, RANK = 512, 64, 4


def convolved(tensor: torch.Tensor) -> torch.Tensor:
    """A matrix as a convolution of 1 x 1."""
    return tensor[:, :, None, None]


def cores() -> dict[str, tuple[Tensors, torch.Tensor]]:
    """Kinds with a core between their factors, and their differences at alpha = 2."""
    draw = Draw(5)
    down, up, mid = draw(RANK, COLUMNS), draw(ROWS, RANK), draw(RANK, RANK)
    lora = {
        "lora_down.weight": convolved(down),
        "lora_up.weight": convolved(up),
        "lora_mid.weight": convolved(mid),
    }
    t1, t2 = draw(RANK, RANK), draw(RANK, RANK)
    left, right = (draw(RANK, ROWS), draw(RANK, COLUMNS)), (draw(RANK, ROWS), draw(RANK, COLUMNS))
    loha = {
        "hada_t1": convolved(t1),
        "hada_w1_a": left[0],
        "hada_w1_b": left[1],
        "hada_t2": convolved(t2),
        "hada_w2_a": right[0],
        "hada_w2_b": right[1],
    }
    w1, w2a, w2b = draw(8, 4), draw(RANK, ROWS // 8), draw(RANK, COLUMNS // 4)
    lokr = {"lokr_w1": w1, "lokr_w2_a": w2a, "lokr_w2_b": w2b, "lokr_t2": convolved(t2)}

    def tucker(core: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        # comfy/weight_adapter/loha.py: "i j k l, j r, i p -> p r k l"
        return torch.einsum("ij,jr,ip->pr", core, b, a).contiguous()

    plain = {"lora_down.weight": convolved(down), "lora_up.weight": convolved(up)}
    return {
        "LoRA as convolutions": (plain, up @ down),
        "LoRA": (lora, up @ mid @ down),
        "LoHa": (loha, tucker(t1, *left) * tucker(t2, *right)),
        "LoKr": (lokr, torch.kron(w1, tucker(t2, w2a, w2b))),
    }


@pytest.mark.parametrize("kind", cores())
def test_cores(kind: str, folder: Path, base: Tensors, tmp_path: Path) -> None:
    tensors, delta = cores()[kind]
    tensors = {f"{STEM}.{name}": tensor for name, tensor in tensors.items()}
    file = write(tmp_path / "lora.safetensors", tensors | {f"{STEM}.alpha": torch.tensor(2.0)})
    wanted = base | {f"{NAME}.weight": base[f"{NAME}.weight"] + 2 / RANK * delta}
    assert difference(merge(folder, tmp_path / "out.safetensors", file), wanted) <= TOLERANCE


def test_norms_and_biases(folder: Path, base: Tensors, tmp_path: Path) -> None:
    draw = Draw(6)
    norm, other, bias = draw(32), draw(64), draw(64)
    block = "transformer_blocks.0.attn"
    stem = "lycoris_transformer_blocks_0_attn"
    tensors = {
        f"{stem}_norm_added_k.w_norm": norm,
        "lycoris_context_embedder_norm.diff": other,
        f"{stem}_to_q.diff_b": bias,
    }
    file = write(tmp_path / "norms.safetensors", tensors)
    names = (f"{block}.norm_added_k.weight", "context_embedder_norm.weight", f"{block}.to_q.bias")
    deltas = dict(zip(names, (norm, other, bias), strict=True))
    found = merge(folder, tmp_path / "out.safetensors", f"{file}=0.5")
    wanted = base | {name: base[name] + 0.5 * delta for name, delta in deltas.items()}
    assert difference(found, wanted) <= TOLERANCE
    # An RMS norm has no bias.
    write(file, tensors | {f"{stem}_norm_added_k.b_norm": norm.clone()})
    result = try_merge(folder, tmp_path / "x.safetensors", file)
    assert result.returncode == 1 and "1 of the 4 tensors" in result.stderr


def test_8_bit_models_are_refused(tmp_path: Path, base: Tensors) -> None:
    weights = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in base.items()}
    weights = {name: t if t.ndim > 1 else base[name] for name, t in weights.items()}
    model = write(tmp_path / "model.safetensors", weights)
    tensors = {f"{NAME}.lora_A.weight": torch.ones(1, COLUMNS)}
    tensors[f"{NAME}.lora_B.weight"] = torch.ones(ROWS, 1)
    file = write(tmp_path / "lora.safetensors", tensors)
    result = try_merge(model, tmp_path / "out.safetensors", file)
    assert result.returncode == 1
    assert "is stored as F8_E4M3" in result.stderr and "bf16, f16 or f32" in result.stderr
