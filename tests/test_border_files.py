"""Every kind of file in the place of weights.

The worker accepts it, or refuses it in one sentence. It never panics, prints a backtrace, or hangs.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import fake_files
from border import COMFYUI, beside, reasons, refused, report, run

# --- What a file can be ----------------------------------------------------------------


def text_file(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content) and None


def header_file(header: object, data: int = 4, **lie: int) -> Callable[[Path], None]:
    return lambda path: fake_files.write_header(path, header, data, **lie) and None


def tensor(shape: list[object], *offsets: int, dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": list(offsets)}


def pickle(path: Path) -> None:
    torch.save({"img_in.weight": torch.zeros(2)}, path)


FILES: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "empty": (text_file(b""), ("an empty file",)),
    "zeros": (text_file(bytes(4096)), ("a file of zeros",)),
    "web page": (text_file(b"\n<!DOCTYPE html><html>log in</html>"), ("a web page",)),
    "server's XML": (text_file(b"<?xml version='1.0'?><Error/>"), ("a web page",)),
    "server's JSON": (text_file(b'{"error":"Repository not found"}'), ("a JSON file",)),
    "server's text": (text_file(b"Invalid username or password."), ("not a safetensors file",)),
    "LFS pointer": (
        text_file(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
        ("a Git LFS pointer",),
    ),
    "GGUF without tensors": (text_file(b"GGUF\3\0\0\0" + bytes(64)), ("it has no tensors",)),
    "GGUF of version 1": (text_file(b"GGUF\1\0\0\0" + bytes(64)), ("damaged", "GGUF version 1")),
    "GGUF of many tensors": (
        text_file(b"GGUF\3\0\0\0" + b"\xff" * 8 + bytes(64)),
        ("damaged", "claims 18446744073709551615 tensors"),
    ),
    "pickle": (pickle, ("a PyTorch pickle",)),
    "ZIP": (text_file(b"PK\3\4" + b"readme.txt" * 9), ("a ZIP archive",)),
    "AppleDouble": (text_file(b"\0\5\26\7\0\2\0\0Mac OS X" + bytes(99)), ("AppleDouble",)),
    "pipe": (os.mkfifo, ("a pipe, socket or device, not a file",)),
    "link to a device": (lambda path: path.symlink_to("/dev/zero"), ("device, not a file",)),
    "link to nothing": (lambda path: path.symlink_to("blobs/abc"), ("a link to `blobs/abc`",)),
    "link to itself": (lambda path: path.symlink_to(path), ("too many levels of symbolic links",)),
    "empty folder": (Path.mkdir, ("no Ovis-Image weights", "it is empty")),
    "no tensors": (header_file({}, 0), ("it has no tensors",)),
    "header beyond the file": (
        header_file({}, 0, length=90_000_000),
        ("truncated", "(the header)"),
    ),
    "header of 2^63": (header_file({}, 0, length=2**63), ("not a safetensors file",)),
    "header of no JSON": (header_file(b"{x}", 0), ("damaged", "not JSON")),
    "header that is nested": (header_file(b'{"a":' * 9000, 0), ("damaged",)),
    "tensor out of the file": (header_file({"a": tensor([2], 0, 8)}), ("truncated", "`a`")),
    "tensors overlap": (
        header_file({"a": tensor([1], 0, 4), "b": tensor([1], 0, 4)}),
        ("damaged", "starts at byte 0"),
    ),
    "tensor named twice": (
        header_file(b'{"a":%s,"a":%s}' % ((json.dumps(tensor([1], 0, 4)).encode(),) * 2)),
        ("damaged", "`a` twice"),
    ),
    "unknown type": (
        header_file({"a": tensor([1], 0, 4, dtype="NVF4")}),
        ("tensor `a`", "stored as `NVF4`, a type that this ovis-worker does not know"),
    ),
    "bytes overflow": (header_file({"a": tensor([2**62, 8], 0, 4)}), ("damaged", "cannot lie")),
    "bytes overflow and offsets are reversed": (
        header_file({"a": tensor([1], 0, 4), "b": tensor([2**62, 8], 4, 3)}),
        ("damaged", "`b`"),
    ),
    "negative shape": (header_file({"a": tensor([-1], 0, 4)}), ("damaged", "`a`")),
    "no offsets": (header_file({"a": {"dtype": "F32", "shape": [1]}}), ("damaged", "`a`")),
    "tensor that is a number": (header_file({"a": 3}), ("damaged", "`a`")),
    "name with a newline": (
        header_file({"a\nerror: \x1b[2Jforged": tensor([1], 0, 4)}),
        (r"a\nerror: \u{1b}[2Jforged",),
    ),
    "long name": (header_file({"x" * 1_000_000: tensor([1], 0, 4)}), ("holds no",)),
}


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("flag", ["model", "vae"])
def test_a_file_of_another_kind(tmp_path: Path, kind: str, flag: str) -> None:
    make, words = FILES[kind]
    make(tmp_path / "ae.safetensors")
    said = refused(run("inspect", **{flag: tmp_path / "ae.safetensors"}), *words)
    assert len(said) < 5000
    assert ("pickle" in said) == (kind == "pickle")
    assert not any(name in said for name in ("variant", "struct", "usize", "TensorInfo"))
    assert kind != "unknown type" or "Download" not in said


@pytest.mark.parametrize(
    "kind", ["pipe", "GGUF of version 1", "link to a device", "header beyond the file"]
)
def test_generate_and_serve_say_the_same(tmp_path: Path, kind: str) -> None:
    make, words = FILES[kind]
    make(tmp_path / "ae.safetensors")
    model = {"vae": tmp_path / "ae.safetensors", "device": "cpu"}
    out = tmp_path / "image.png"
    refused(run("generate", **model, prompt="a", steps=1, out=out), *words)
    refused(run("serve", **model, listen="127.0.0.1:0"), *words)


def test_a_socket_where_a_file_should_be(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        refused(run("inspect", vae=tmp_path / "s"), "a pipe, socket or device")


# --- Other models' autoencoders --------------------------------------------------------


def test_a_lone_vae_of_sd3(models: Path) -> None:
    ours = models / "vae" / "ae.safetensors"
    other = models / "vae" / "sd3_vae.safetensors"
    ours.rename(other)
    refused(run("inspect", model=models), other, "Stable Diffusion 3")
    named = report(model=models, vae=other)
    assert Path(named["vae"]["path"]) == other
    assert "Stable Diffusion 3" in named["notes"][0]
    shutil.copy(other, ours)
    both = report(model=models)
    assert Path(both["vae"]["path"]) == ours and both["notes"] == []
    assert "Stable Diffusion 3" in reasons(both)[other.name]
    ours.unlink()
    other.rename(models / "vae" / "flux_vae_like_sd3.safetensors")
    assert report(model=models)["notes"] == []


VAES = {
    "sd15": (
        {"decoder.conv_in.weight": (512, 4, 3, 3), "quant_conv.weight": (8, 8, 1, 1)},
        "Stable Diffusion 1.5 or XL",
    ),
    "flux2": (
        {"decoder.conv_in.weight": (512, 32, 3, 3), "bn.running_mean": (128,)},
        "FLUX.2",
    ),
    "wan": (
        {"conv1.weight": (32, 32, 1, 1, 1), "decoder.middle.0.residual.0.gamma": (384, 1, 1, 1)},
        "Wan",
    ),
    "hunyuan": ({"decoder.conv_in.conv.weight": (512, 16, 3, 3, 3)}, "HunyuanVideo"),
    "taesd": ({"decoder.layers.0.weight": (64, 16, 3, 3)}, "TAESD"),
}


@pytest.mark.parametrize("kind", VAES)
def test_a_vae_of_another_model(models: Path, kind: str) -> None:
    shapes, model = VAES[kind]
    file = fake_files.write_hollow(models / "vae" / f"{kind}.safetensors", shapes)
    for where in ({"vae": file}, {"model": file}):
        refused(run("inspect", **where), file, model)
    found = report(model=models)
    assert found["missing"] == []
    assert model in reasons(found)[file.name]
    (models / COMFYUI["vae"]).unlink()
    assert report(model=models)["missing"] == ["VAE"]


# --- Shapes that no network can have ---------------------------------------------------

LANDMARKS = {
    "transformer": [
        "img_in.weight",
        "txt_in.weight",
        "double_blocks.0.img_attn.norm.query_norm.scale",
        "double_blocks.0.img_mlp.down_proj.weight",
        "single_blocks.0.linear2.weight",
    ],
    "text_encoder": [
        "model.embed_tokens.weight",
        "model.layers.0.self_attn.q_norm.weight",
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.0.self_attn.k_proj.weight",
        "model.layers.0.mlp.gate_proj.weight",
    ],
    "vae": [
        "decoder.conv_in.weight",
        "encoder.down.0.block.0.conv1.weight",
        "encoder.down.3.block.0.conv1.weight",
    ],
}


@pytest.mark.parametrize("size", [0, 2**21, 2**40, 2**62, "scalar"])
@pytest.mark.parametrize(
    ("part", "name"), [(part, name) for part, names in LANDMARKS.items() for name in names]
)
def test_a_dimension_that_no_network_has(tiny: Path, tmp_path: Path, part, name, size) -> None:
    """Every tensor that determines the geometry, with an impossible value in every dimension.

    The value is zero, or so large that products overflow. The files contain no data, because
    another dimension is zero.
    """
    source = tiny / "comfyui" / "models" / COMFYUI[part]
    shapes = {key: list(value.shape) for key, value in load_file(source).items()}
    for axis in range(len(shapes[name])):
        shape = shapes[name].copy()
        if size == "scalar":
            shape = []
        elif size == 0:
            shape[axis] = 0
        else:
            shape = [0] * len(shape)
            shape[axis] = size
            if len(shape) == 1:
                shape.append(0)
        file = tmp_path / f"{axis}.safetensors"
        fake_files.write_hollow(file, shapes | {name: tuple(shape)})
        refused(run("inspect", **{part: file}), file)


@pytest.mark.parametrize("names", ["double_blocks.65535.x", "double_blocks.4294967295.x"])
def test_a_block_with_a_huge_number(tiny: Path, tmp_path: Path, names: str) -> None:
    source = tiny / "comfyui" / "models" / COMFYUI["transformer"]
    tensors = load_file(source) | {names: torch.zeros(1)}
    save_file(tensors, tmp_path / "x.safetensors")
    refused(run("inspect", transformer=tmp_path / "x.safetensors"), "double_blocks.")


# --- Names of tensors, shards and indexes ----------------------------------------------


@pytest.mark.parametrize(
    "prefix",
    [
        "_orig_mod.",
        "module.",
        "module._orig_mod.",
        "model.diffusion_model.",
        "_orig_mod.model.diffusion_model.",
        "transformer.",
    ],
)
def test_prefixes_of_wrappers(tiny: Path, tmp_path: Path, prefix: str) -> None:
    file = tmp_path / "ovis.safetensors"
    source = tiny / "comfyui" / "models" / COMFYUI["transformer"]
    save_file({prefix + name: value for name, value in load_file(source).items()}, file)
    for where in ({"transformer": file}, {"model": file}):
        found = report(**where)["transformer"]
        assert found["geometry"] == report(transformer=source)["transformer"]["geometry"]


def test_wrappers_that_hide_a_twin(tiny: Path, tmp_path: Path) -> None:
    file = tmp_path / "ovis.safetensors"
    tensors = load_file(tiny / "comfyui" / "models" / COMFYUI["transformer"])
    save_file(tensors | {"_orig_mod.img_in.bias": tensors["img_in.bias"].clone()}, file)
    refused(run("inspect", transformer=file), file, "img_in.bias`")


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """A diffusers folder whose transformer is sharded."""
    from make_tiny_checkpoint import make

    make(tmp_path, max_shard_size="300KB")
    return tmp_path / "diffusers"


def index_of(shards: Path) -> Path:
    return shards / "transformer" / "diffusion_pytorch_model.safetensors.index.json"


def test_only_a_variant_is_there(shards: Path) -> None:
    expected = report(model=shards)["transformer"]
    folder = shards / "transformer"
    index = json.loads(index_of(shards).read_text())
    index_of(shards).unlink()
    for file in list(folder.glob("*.safetensors")):
        file.rename(folder / file.name.replace("model-", "model.fp16-"))
    index["weight_map"] = {
        name: file.replace("model-", "model.fp16-") for name, file in index["weight_map"].items()
    }
    variant = folder / "diffusion_pytorch_model.safetensors.index.fp16.json"
    variant.write_text(json.dumps(index))
    for part in ("vae", "text_encoder"):
        for file in (shards / part).glob("*.safetensors"):
            if "-of-" not in file.name:
                file.rename(file.with_suffix(".fp16.safetensors"))
    assert report(model=shards)["transformer"] == expected
    assert report(transformer=variant)["transformer"]["geometry"] == expected["geometry"]


def test_shards_without_their_index(shards: Path) -> None:
    expected = report(model=shards)["transformer"]
    index_of(shards).unlink()
    assert report(model=shards)["transformer"] == expected
    max((shards / "transformer").glob("*.safetensors")).unlink()
    refused(run("inspect", model=shards), shards / "transformer", "is incomplete", "is missing")


def test_one_shard_stands_for_all(shards: Path) -> None:
    expected = report(transformer=shards / "transformer")["transformer"]
    files = sorted((shards / "transformer").glob("*.safetensors"))
    assert len(files) > 1
    for file in (files[0], files[-1]):
        for where in ({"transformer": file}, {"model": file}):
            assert report(**where)["transformer"] == expected
    index_of(shards).unlink()
    assert report(transformer=files[0])["transformer"] == expected
    files[-1].unlink()
    said = refused(run("inspect", transformer=files[0]), shards / "transformer", "is incomplete")
    assert f"of its {len(files)} shards, number {len(files)} is missing" in said


@pytest.mark.parametrize("part", ["transformer", "text_encoder"])
def test_a_left_over_index_beside_the_whole(diffusers: Path, part: str) -> None:
    expected = report(model=diffusers)[part]
    (file,) = (diffusers / part).glob("*.safetensors")
    index = file.with_name(file.name + ".index.json")
    gone = file.stem + "-00001-of-00030.safetensors"
    index.write_text(json.dumps({"weight_map": dict.fromkeys(load_file(file), gone)}))
    for where in ({"model": diffusers}, {part: diffusers / part}):
        found = report(**where)
        assert found[part] == expected
        (note,) = found["notes"]
        assert str(index) in note and "the whole weights lie beside it" in note
    refused(run("inspect", **{part: index}), index, f"`{gone}` is missing")
    (diffusers / part / gone).write_bytes(b"")
    refused(run("inspect", model=diffusers), gone, "an empty file")


# --- More than a part, and less than one -----------------------------------------------


@pytest.mark.parametrize("vae", ["vae.", "first_stage_model."])
def test_an_all_in_one_checkpoint(models: Path, tmp_path: Path, vae: str) -> None:
    file = tmp_path / "everything.safetensors"
    starts = {
        "transformer": "model.diffusion_model.",
        "text_encoder": "text_encoders.ovis25_2b.transformer.",
        "vae": vae,
    }
    tensors = {
        start + name: value
        for part, start in starts.items()
        for name, value in load_file(models / COMFYUI[part]).items()
    }
    save_file(tensors, file)
    for flag in ("model", *COMFYUI):
        said = refused(run("inspect", **{flag: file}), file, "all-in-one checkpoint", "not read")
        assert "Name a file for each part with --transformer" in said
    shutil.copy(file, models / "diffusion_models")
    found = report(model=models)
    assert found["missing"] == [] and "all-in-one" in reasons(found)[file.name]


LORAS = {
    "diffusers": (
        "transformer.transformer_blocks.0.attn.to_q.",
        ("lora_A.weight", "lora_B.weight"),
    ),
    "ComfyUI": (
        "diffusion_model.double_blocks.0.img_attn.qkv.",
        ("lora_up.weight", "lora_down.weight", "alpha"),
    ),
    "kohya": ("lora_unet_double_blocks_0_img_attn_qkv.", ("lora_up.weight", "lora_down.weight")),
    "LoHa": ("double_blocks.0.img_attn.qkv.", ("hada_w1_a", "hada_w1_b", "hada_w2_a", "alpha")),
    "LoKr": ("double_blocks.0.img_attn.qkv.", ("lokr_w1", "lokr_w2", "alpha")),
}


@pytest.mark.parametrize("kind", LORAS)
def test_a_lora(models: Path, kind: str) -> None:
    start, names = LORAS[kind]
    file = models / "diffusion_models" / "style.safetensors"
    save_file({start + name: torch.zeros(4, 4) for name in names}, file)
    for flag in ("model", "transformer"):
        said = refused(run("inspect", **{flag: file}), file, "a LoRA adapter")
        assert "name the file of the model itself" in said
    found = report(model=models)
    assert found["missing"] == [] and "a LoRA adapter" in reasons(found)[file.name]
    (models / COMFYUI["transformer"]).unlink()
    found = report(model=models)
    assert found["missing"] == ["transformer"] and "a LoRA adapter" in reasons(found)[file.name]
    out = models / "image.png"
    result = run("generate", model=models, prompt="a", device="cpu", out=out)
    assert "a LoRA adapter" in refused(result, "transformer")


def lie(shards: Path, change: Callable[[dict], object]) -> Path:
    index = json.loads(index_of(shards).read_text())
    change(index)
    index_of(shards).write_text(json.dumps(index))
    return index_of(shards)


INDEXES: dict[str, tuple[Callable[[dict], object], str]] = {
    "outside": (lambda i: i["weight_map"].update(x="../vae/x.safetensors"), "in the same folder"),
    "absolute": (lambda i: i["weight_map"].update(x="/dev/zero"), "in the same folder"),
    "windows": (lambda i: i["weight_map"].update(x="C:\\x.safetensors"), "in the same folder"),
    "parent": (lambda i: i["weight_map"].update(x=".."), "in the same folder"),
    "pickle": (lambda i: i["weight_map"].update(x="x.bin"), "in the same folder"),
    "number": (lambda i: i["weight_map"].update(x=3), "in the same folder"),
    "missing": (lambda i: i["weight_map"].update(x="x.safetensors"), "`x.safetensors` is missing"),
    "unknown": (
        lambda i: i["weight_map"].update(x=next(iter(i["weight_map"].values()))),
        "none of the shards has its tensor `x`",
    ),
    "empty": (lambda i: i.update(weight_map={}), "no `weight_map`"),
    "list": (lambda i: i.update(weight_map=[]), "no `weight_map`"),
    "swapped": (
        lambda i: i["weight_map"].update(
            {name: max(i["weight_map"].values()) for name in ("x_embedder.bias", "proj_out.bias")}
            | {"x_embedder.weight": min(i["weight_map"].values())}
        ),
        "it says that tensor",
    ),
}


@pytest.mark.parametrize("kind", INDEXES)
def test_an_index_that_lies(shards: Path, kind: str) -> None:
    change, words = INDEXES[kind]
    index = lie(shards, change)
    refused(run("inspect", model=shards), index, words)


def test_a_shard_that_is_a_dead_link(shards: Path) -> None:
    shard = max((shards / "transformer").glob("*.safetensors"))
    shard.unlink()
    shard.symlink_to("../../blobs/abc")
    refused(run("inspect", model=shards), shard, "a link to `../../blobs/abc`")


def test_a_download_that_goes_on(models: Path) -> None:
    file = models / COMFYUI["vae"]
    beside(models, f"{COMFYUI['vae']}.aria2", b"\0\1")
    refused(run("inspect", vae=file), file, "is incomplete", "aria2")
