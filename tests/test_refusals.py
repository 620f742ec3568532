"""Invalid files are refused with a non-zero exit status.

One sentence names the file and the tensor, and a hint follows.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import fake_files
from real_worker import command

COMFYUI_FILES = {
    "transformer": "comfyui/models/diffusion_models/ovis_image_f32.safetensors",
    "text_encoder": "comfyui/models/text_encoders/ovis_2.5.safetensors",
    "vae": "comfyui/models/vae/ae.safetensors",
}
PART_NAMES = {"transformer": "transformer", "text_encoder": "text encoder", "vae": "VAE"}


def refusal(result: subprocess.CompletedProcess[str], *words: object) -> str:
    """The sentence of a command that must fail; it must contain all `words`."""
    lines = result.stderr.splitlines()
    assert result.returncode == 1, (result.returncode, result.stderr)
    assert result.stdout == ""
    assert 1 <= len(lines) <= 2, result.stderr
    assert lines[0].startswith("error: ")
    assert all(line.startswith("hint: ") for line in lines[1:])
    for word in words:
        assert str(word) in lines[0]
    return lines[0]


def has_hint(result: subprocess.CompletedProcess[str]) -> bool:
    return "\nhint: " in result.stderr


@pytest.mark.parametrize("part", COMFYUI_FILES)
def test_a_truncated_file(tiny: Path, tmp_path: Path, part: str) -> None:
    whole = (tiny / COMFYUI_FILES[part]).read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    info = json.loads(whole[8:header])
    last = max(info, key=lambda name: info[name]["data_offsets"][1])
    for length, tensor in ((len(whole) - 1, last), (header - 5, "(the header)")):
        file = tmp_path / f"{part}.safetensors"
        file.write_bytes(whole[:length])
        result = command("inspect", **{part: file})
        refusal(result, file, "truncated", f"`{tensor}`", f"{length}")
        assert has_hint(result)


def test_a_truncated_shard(tiny: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny / "original", model)
    shard = max((model / "Ovis2.5-2B").glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-4])
    refusal(command("inspect", model=model), shard, "truncated")


# One tensor of each part, by its name in each layout.
TENSORS = {
    "transformer": ["double_blocks.1.img_attn.proj.weight", "single_blocks.0.linear1.weight"],
    "text_encoder": ["model.layers.1.mlp.up_proj.weight", "model.norm.weight"],
    "vae": ["decoder.up.2.block.1.conv1.weight", "encoder.mid.block_1.norm1.bias"],
}
TENSORS_IN_DIFFUSERS = {
    "transformer": ["transformer_blocks.1.attn.to_out.0.bias", "norm_out.linear.weight"],
    "text_encoder": ["layers.1.self_attn.q_norm.weight"],
    "vae": ["decoder.up_blocks.1.resnets.1.norm1.weight"],
}


def damaged(source: Path, target: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    """A copy of a weights file with modified tensors."""
    tensors = load_file(source)
    change(tensors)
    save_file(tensors, target)
    return target


def each_tensor(names: dict[str, list[str]]) -> list[tuple[str, str]]:
    return [(part, name) for part, tensors in names.items() for name in tensors]


@pytest.mark.parametrize(("part", "tensor"), each_tensor(TENSORS))
def test_a_missing_tensor(tiny: Path, tmp_path: Path, part: str, tensor: str) -> None:
    target = tmp_path / "weights.safetensors"
    file = damaged(tiny / COMFYUI_FILES[part], target, lambda tensors: tensors.pop(tensor))
    result = command("inspect", **{part: file})
    tensor = tensor.removeprefix("model.")
    refusal(result, file, "lacks", PART_NAMES[part], f"{tensor}`")
    assert has_hint(result)


@pytest.mark.parametrize(("part", "tensor"), each_tensor(TENSORS))
def test_a_misshapen_tensor(tiny: Path, tmp_path: Path, part: str, tensor: str) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors[tensor] = tensors[tensor][:-1].contiguous()

    source = tiny / COMFYUI_FILES[part]
    file = damaged(source, tmp_path / "weights.safetensors", change)
    shapes = [str(list(load_file(path)[tensor].shape)) for path in (file, source)]
    result = command("inspect", **{part: file})
    refusal(result, file, f"`{tensor}`", *shapes)
    assert has_hint(result)


@pytest.mark.parametrize(
    ("part", "tensor"),
    [
        ("transformer", "double_blocks.0.img_attn.extra.weight"),
        ("transformer", "lora_up.weight"),
        ("text_encoder", "model.layers.0.self_attn.q_proj.extra"),
        ("vae", "decoder.up.0.upsample.conv.weight"),
        ("vae", "quant_conv.weight"),
    ],
)
def test_an_unknown_extra_tensor(tiny: Path, tmp_path: Path, part: str, tensor: str) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors[tensor] = torch.zeros(4)

    file = damaged(tiny / COMFYUI_FILES[part], tmp_path / "weights.safetensors", change)
    result = command("inspect", **{part: file})
    refusal(result, file, f"`{tensor}`", "unknown", PART_NAMES[part])
    assert has_hint(result)


@pytest.mark.parametrize(("part", "tensor"), each_tensor(TENSORS_IN_DIFFUSERS))
def test_in_the_diffusers_layout(tiny: Path, tmp_path: Path, part: str, tensor: str) -> None:
    (source,) = (tiny / "diffusers" / part).glob("*.safetensors")
    model = tmp_path / "diffusers"
    shutil.copytree(tiny / "diffusers", model)
    file = model / part / source.name
    damaged(source, file, lambda tensors: tensors.pop(tensor))
    refusal(command("inspect", model=model), model / part, "lacks", f"`{tensor}`")

    def shorten(tensors: dict[str, torch.Tensor]) -> None:
        tensors[tensor] = tensors[tensor][1:].contiguous()

    damaged(source, file, shorten)
    refusal(command("inspect", model=model), file, f"`{tensor}`", "shape")


def test_a_type_that_cannot_be_computed_with(tiny: Path, tmp_path: Path) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors["img_in.weight"] = tensors["img_in.weight"].to(torch.int8)

    file = damaged(tiny / COMFYUI_FILES["transformer"], tmp_path / "q.safetensors", change)
    refusal(command("inspect", transformer=file), file, "`img_in.weight`", "I8")


@pytest.mark.parametrize(
    ("shapes", "model", "tensor"),
    [
        (fake_files.flux_dev(), "FLUX.1-dev", "guidance_in."),
        (fake_files.flux_dev_diffusers(), "FLUX.1-dev", "time_text_embed.guidance_embedder."),
        (fake_files.sd3(), "Stable Diffusion 3", "model.diffusion_model.joint_blocks.0."),
        (fake_files.sd3_diffusers(), "Stable Diffusion 3", "pos_embed.proj."),
    ],
    ids=["flux", "flux-diffusers", "sd3", "sd3-diffusers"],
)
def test_the_transformer_of_another_model(tmp_path: Path, shapes, model: str, tensor: str) -> None:
    file = fake_files.write_hollow(tmp_path / "transformer" / "model.safetensors", shapes)
    for arguments in ({"transformer": file}, {"model": file}):
        result = command("inspect", **arguments)
        refusal(result, file, f"of {model}, not of Ovis-Image", f"`{tensor}")
        assert has_hint(result)
    refusal(command("inspect", model=tmp_path), file, model, f"`{tensor}")


def test_a_part_named_as_another(tiny: Path) -> None:
    file = tiny / COMFYUI_FILES["vae"]
    result = command("inspect", transformer=file)
    refusal(result, file, "no transformer", "`decoder.")
    assert has_hint(result)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", ["model.pt", "model.ckpt", "model.bin", "model.safetensors"])
def test_a_pickle_by_name(tmp_path: Path, name: str, legacy: bool) -> None:
    file = tmp_path / name
    torch.save({"img_in.weight": torch.zeros(2)}, file, _use_new_zipfile_serialization=not legacy)
    for flag in ("model", *COMFYUI_FILES):
        result = command("inspect", **{flag: file})
        refusal(result, file, "a PyTorch pickle")
        assert ".safetensors or .gguf release" in result.stderr


@pytest.mark.parametrize("part", COMFYUI_FILES)
def test_a_pickle_where_weights_should_be(tiny: Path, tmp_path: Path, part: str) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny / "diffusers", model)
    for file in (model / part).glob("*.safetensors"):
        file.unlink()
    pickle = model / part / "pytorch_model.bin"
    torch.save({}, pickle)
    refusal(command("inspect", model=model), pickle, "a PyTorch pickle")


def test_no_weights_at_all(tmp_path: Path) -> None:
    missing = tmp_path / "nowhere"
    assert has_hint(command("inspect", model=missing))
    refusal(command("inspect", model=missing), missing, "no such file or folder")
    refusal(command("inspect", model=tmp_path), tmp_path, "no Ovis-Image weights")
    refusal(command("inspect"), "no weights were named")
    text = tmp_path / "notes.txt"
    text.write_text("not weights")
    refusal(command("inspect", model=text), text, "not a safetensors file")


def test_bytes_that_mean_nothing(tiny: Path, tmp_path: Path) -> None:
    """A header with any byte changed is read or refused, and never causes a crash."""
    whole = bytearray((tiny / COMFYUI_FILES["vae"]).read_bytes())
    file = tmp_path / "vae.safetensors"
    header = int.from_bytes(whole[:8], "little")
    for position in [*range(10), *range(10, header, header // 20)]:
        changed = bytearray(whole)
        changed[position] ^= 0x15
        file.write_bytes(changed)
        result = command("inspect", vae=file)
        if result.returncode != 0:
            refusal(result, file)


def test_generate_and_serve_refuse_alike(tiny: Path, tmp_path: Path) -> None:
    file = tmp_path / "ovis_image.safetensors"
    file.write_bytes((tiny / "original" / file.name).read_bytes()[:-1])
    model = {"model": tiny / "original", "transformer": file, "device": "cpu"}
    sentence = refusal(command("inspect", model=tiny / "original", transformer=file))
    out = tmp_path / "image.png"
    generate = command("generate", **model, prompt="a", width=32, height=32, steps=1, out=out)
    assert refusal(generate) == sentence
    assert not out.exists()
    assert refusal(command("serve", **model, listen="127.0.0.1:0")) == sentence


@pytest.mark.parametrize("absent", COMFYUI_FILES)
def test_generate_needs_every_part(tiny: Path, tmp_path: Path, absent: str) -> None:
    """The refusal comes before minutes are spent on loading the parts that exist."""
    parts = {p: tiny / file for p, file in COMFYUI_FILES.items() if p != absent}
    tokenizer = tiny / "diffusers" / "tokenizer"
    out = tmp_path / "image.png"
    result = command(
        "generate",
        **parts,
        tokenizer=tokenizer,
        prompt="a",
        width=32,
        height=32,
        steps=1,
        device="cpu",
        out=out,
    )
    refusal(result, PART_NAMES[absent])
