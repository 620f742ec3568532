"""Everything that can lie where weights should, and what the worker says of it: it is
accepted, or refused in one sentence. Never a panic, never a backtrace, never a hang."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import fake_files
from real_worker import binary, flags

SECONDS = 60
COMFYUI = {
    "transformer": "diffusion_models/ovis_image_f32.safetensors",
    "text_encoder": "text_encoders/ovis_2.5.safetensors",
    "vae": "vae/ae.safetensors",
}
SD3_CONFIG = {
    "_class_name": "AutoencoderKL",
    "block_out_channels": [32, 32, 64, 64],
    "latent_channels": 16,
    "layers_per_block": 2,
    "scaling_factor": 1.5305,
    "shift_factor": 0.0609,
}


def run(
    name: str,
    *positional: object,
    environment: dict[str, str] | None = None,
    before: list[str] | None = None,
    cwd: Path | None = None,
    **values: object,
) -> subprocess.CompletedProcess[str]:
    """A command of the worker with backtraces asked for, to see that none is shown."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGINGFACE_"))}
    env |= {"RUST_BACKTRACE": "1"} | (environment or {})
    command = [*(before or []), str(binary()), name, *map(str, positional), *flags(**values)]
    result = subprocess.run(command, capture_output=True, timeout=SECONDS, env=env, cwd=cwd)
    out, err = (stream.decode("utf-8") for stream in (result.stdout, result.stderr))
    for word in ("panicked", "backtrace", "RUST_BACKTRACE", "thread '", ".rs:", "(os error"):
        assert word not in out + err, out + err
    assert all(ord(c) >= 32 or c == "\n" for c in out + err)
    return subprocess.CompletedProcess(command, result.returncode, out, err)


def report(*positional: object, **values: object) -> dict:
    """What `inspect` says of files that must be accepted."""
    result = run("inspect", *positional, json=True, **values)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return json.loads(result.stdout)


def refused(result: subprocess.CompletedProcess[str], *words: object) -> str:
    """The one sentence of a refusal that has all `words`, and its hint."""
    lines = result.stderr.splitlines()
    assert result.returncode == 1, (result.returncode, result.stdout, result.stderr)
    assert result.stdout == ""
    assert 1 <= len(lines) <= 2, result.stderr
    assert lines[0].startswith("error: ")
    assert all(line.startswith("hint: ") for line in lines[1:])
    for word in words:
        assert str(word) in lines[0], lines[0]
    return result.stderr


def reasons(found: dict) -> dict[str, str]:
    return {Path(file["path"]).name: file["reason"] for file in found["skipped"]}


@pytest.fixture
def models(tiny: Path, tmp_path: Path) -> Path:
    """A ComfyUI's `models` folder of one's own, its tokenizer beside it."""
    shutil.copytree(tiny / "comfyui", tmp_path / "ComfyUI")
    return tmp_path / "ComfyUI" / "models"


@pytest.fixture
def diffusers(tiny: Path, tmp_path: Path) -> Path:
    """A diffusers folder of one's own."""
    shutil.copytree(tiny / "diffusers", tmp_path / "model")
    return tmp_path / "model"


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
    "GGUF": (text_file(b"GGUF\3\0\0\0" + bytes(64)), ("a GGUF file",)),
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
        header_file({"a": tensor([1], 0, 4, dtype="F99")}),
        ("damaged", "`a` is not described"),
    ),
    "bytes overflow": (header_file({"a": tensor([2**62, 8], 0, 4)}), ("damaged", "cannot lie")),
    "bytes overflow and offsets are reversed": (
        header_file({"a": tensor([1], 0, 4), "b": tensor([2**62, 8], 4, 3)}),
        ("damaged", "`b`"),
    ),
    "negative shape": (header_file({"a": tensor([-1], 0, 4)}), ("damaged", "`a`")),
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


@pytest.mark.parametrize("kind", ["pipe", "GGUF", "link to a device", "header beyond the file"])
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


# --- Other files beside the weights ----------------------------------------------------


def beside(models: Path, path: str, content: object = b"") -> Path:
    file = models / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return file


@pytest.mark.parametrize(
    "config",
    [
        SD3_CONFIG,
        SD3_CONFIG | {"latent_channels": 4},
        {"_class_name": "AutoencoderKL", "block_out_channels": [10**18]},
        b"\xff not JSON",
    ],
    ids=["scale", "channels", "huge", "broken"],
)
@pytest.mark.parametrize("named", [False, True], ids=["searched", "named"])
def test_a_config_in_a_shared_folder_is_nobodys(models: Path, config, named: bool) -> None:
    for folder in ("vae", "text_encoders", "diffusion_models"):
        beside(models, f"{folder}/config.json", config)
    where = {part: models / file for part, file in COMFYUI.items()} if named else {"model": models}
    found = report(**where)
    geometry = found["vae"]["geometry"]
    assert (geometry["scaling_factor"], geometry["shift_factor"]) == (0.3611, 0.1159)
    assert geometry["latent_channels"] == 16
    assert all(found[part] for part in COMFYUI)


def test_a_library_s_folder_inside_a_shared_one(models: Path) -> None:
    """Its config may be another model's as well."""
    (models / "vae" / "FLUX1").mkdir()
    weights = models / "vae" / "FLUX1" / "diffusion_pytorch_model.safetensors"
    (models / "vae" / "ae.safetensors").rename(weights)
    beside(models, "vae/FLUX1/config.json", SD3_CONFIG)
    for where in ({"model": models}, {"vae": weights}, {"vae": weights.parent}):
        assert report(**where)["vae"]["geometry"]["scaling_factor"] == 0.3611


CONFIGS = {
    "transformer": {
        "num_layers": [1e18, 10**18, -1, 0, 3, "2", None, [2], True],
        "attention_head_dim": [0, 64],
        "num_attention_heads": [0, 4, 1e308],
        "joint_attention_dim": [2**63, 32],
        "in_channels": [0, 16],
        "patch_size": [2],
        "axes_dims_rope": [[0, 0, 32], [4, 14], [4, 14, 16], "x", [2**70] * 3],
        "_class_name": ["FluxTransformer2DModel", 3],
    },
    "text_encoder": {
        "num_hidden_layers": [1e18, 10**12, 0, 3],
        "vocab_size": [10**12, 7],
        "num_key_value_heads": [0, 3],
        "head_dim": [0, 32],
        "rope_parameters": [{"rope_theta": 0}, {"rope_theta": -1}, {"rope_type": "yarn"}],
        "rms_norm_eps": ["x", 0],
        "model_type": ["qwen2", "llama"],
    },
    "vae": {
        "latent_channels": [4, 0, 10**18],
        "block_out_channels": [[], [0], [32, 32, 64], "x", [10**18]],
        "layers_per_block": [1, 10**9],
        "norm_num_groups": [0, 7, 10**9],
        "scaling_factor": [0, -1, 1.5305, "x"],
        "shift_factor": ["x", [1]],
        "sample_size": [0, 10**6, 1e18],
        "in_channels": [4],
        "_class_name": ["AutoencoderKLWan"],
    },
}
VALID = {("transformer", "num_layers", None)}
"""What is as good as absent."""


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [(p, f, v) for p, fields in CONFIGS.items() for f, values in fields.items() for v in values],
    ids=lambda value: str(value)[:24],
)
def test_a_config_that_contradicts_its_weights(diffusers: Path, part, field, value) -> None:
    file = diffusers / part / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {field: value}))
    if (part, field, value) in VALID:
        report(model=diffusers)
    else:
        words = (file,) if field not in ("block_out_channels", "norm_num_groups") else ()
        refused(run("inspect", model=diffusers), *words)


@pytest.mark.parametrize(
    "text", [b"[]", b"3", b"{", b"", b'{"num_layers": NaN}', b"\xff\xfe{\0}\0", b"\xff"]
)
def test_a_config_that_is_none(diffusers: Path, text: bytes) -> None:
    file = diffusers / "transformer" / "config.json"
    file.write_bytes(text)
    refused(run("inspect", model=diffusers), file, "is not usable")


def test_a_config_that_is_a_pipe(diffusers: Path) -> None:
    file = diffusers / "transformer" / "config.json"
    file.unlink()
    os.mkfifo(file)
    refused(run("inspect", model=diffusers), file, "a pipe")


def test_json_as_windows_writes_it(diffusers: Path) -> None:
    """A byte-order mark, and lines that end in CR LF."""
    before = report(model=diffusers)
    for file in diffusers.rglob("*.json"):
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    assert report(model=diffusers) == before


def test_merges_as_windows_write_them(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny / "original" / "Ovis2.5-2B", tmp_path / "tokenizer")
    for name in ("vocab.json", "merges.txt"):
        file = tmp_path / "tokenizer" / name
        text = file.read_text("utf-8")
        file.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    found = report(model=tiny / "original", tokenizer=tmp_path / "tokenizer" / "vocab.json")
    plain = report(model=tiny / "original")
    assert found["tokenizer"]["vocabulary"] == plain["tokenizer"]["vocabulary"]


def test_apple_double_everywhere(tiny: Path, tmp_path: Path) -> None:
    for source in ("diffusers", "original", "comfyui"):
        model = tmp_path / source
        shutil.copytree(tiny / source, model)
        expected = report(model=model)
        for path in list(model.rglob("*")):
            beside(path.parent, f"._{path.name}", b"\0\5\26\7\0\2\0\0Mac OS X" + bytes(99))
        copy = model / "models" / "vae" / "__MACOSX" / "ae.safetensors"
        if source == "comfyui":
            copy.parent.mkdir()
            copy.write_bytes(b"\0\5\26\7")
            hidden = model / "models" / "vae" / "._folder" / "ae.safetensors"
            hidden.parent.mkdir()
            hidden.write_bytes(b"\0\5\26\7")
        assert report(model=model) == expected


def test_apple_double_beside_an_index(tiny: Path, tmp_path: Path) -> None:
    from make_tiny_checkpoint import make

    make(tmp_path, max_shard_size="100KB")
    folder = tmp_path / "diffusers" / "transformer"
    for path in list(folder.iterdir()):
        beside(folder, f"._{path.name}", b"\0\5\26\7\0\2\0\0Mac OS X")
    assert report(model=tmp_path / "diffusers")["transformer"]["files"] > 1


def test_what_else_lies_in_comfyuis_folders(models: Path) -> None:
    """Pipes, folders with a file's name, rings of links, and files of other formats."""
    os.mkfifo(models / "vae" / "pipe.safetensors")
    (models / "vae" / "folder.safetensors").mkdir()
    (models / "vae" / "ring").symlink_to(models / "vae")
    (models / "vae" / "up").symlink_to(models)
    beside(models, "vae/put_vae_here")
    beside(models, "vae/kl-f8.ckpt", b"\x80\x02}q\x00.")
    beside(models, "diffusion_models/flux1-dev-Q4.gguf", b"GGUF\3\0\0\0")
    beside(models, "vae/ae.safetensors.incomplete", b"\0" * 9)
    found = report(model=models)
    assert found["missing"] == []
    assert found["notes"] == []
    assert reasons(found).keys() == {"kl-f8.ckpt", "flux1-dev-Q4.gguf"}
    assert "a GGUF file" in reasons(found)["flux1-dev-Q4.gguf"]


def test_names_that_are_no_text(models: Path) -> None:
    """Not UTF-8, and with what would move a terminal's cursor."""
    odd = os.fsencode(models / "vae") + b"/\xff\x1b[2J\nae.safetensors"
    os.rename(models / "vae" / "ae.safetensors", odd)
    found = report(model=models)
    assert found["vae"]["path"].endswith("ae.safetensors")
    text = run("inspect", model=models)
    assert text.returncode == 0 and r"\u{1b}[2J\nae.safetensors" in text.stdout


def test_a_tokenizer_in_a_folder_that_is_no_text(tiny: Path, tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    shutil.copytree(tiny / "original" / "Ovis2.5-2B", folder)
    report(model=tiny / "diffusers", tokenizer=folder)


def test_a_model_s_name_is_one_line(tiny: Path, tmp_path: Path) -> None:
    model = tmp_path / "a\nb\x1b[31m"
    shutil.copytree(tiny / "diffusers", model)
    assert report(model=model)["name"] == r"a\nb\u{1b}[31m"


# --- Folders that may not be looked into -----------------------------------------------


@pytest.fixture
def as_nobody() -> Iterator[tuple[Path, list[str]]]:
    """A folder that everybody may read, and what runs a command as a user without rights."""
    before = []
    if os.geteuid() == 0:
        setpriv = shutil.which("setpriv")
        if setpriv is None:
            pytest.skip("setpriv is missing")
        before = [setpriv, "--reuid=65534", "--regid=65534", "--clear-groups"]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder), before


def test_an_unreadable_folder_is_passed_over(tiny: Path, as_nobody) -> None:
    folder, before = as_nobody
    shutil.copytree(tiny / "comfyui", folder / "ComfyUI")
    models = folder / "ComfyUI" / "models"
    lost = models / "vae" / "lost+found"
    lost.mkdir(mode=0o700)
    lost.chmod(0o000)
    found = report(model=models, before=before)
    assert found["missing"] == []
    assert reasons(found)["lost+found"] == f"`{lost}` cannot be read: permission denied"
    lost.rmdir()

    (models / "vae").chmod(0o000)
    found = report(model=models, before=before)
    assert found["missing"] == ["VAE"]
    assert "permission denied" in reasons(found)["vae"]
    out = folder / "image.png"
    result = run("generate", model=models, prompt="a", device="cpu", out=out, before=before)
    said = refused(result, "VAE")
    assert f"`{models / 'vae'}` cannot be read: permission denied" in said
    (models / "vae").chmod(0o755)

    (models / "vae" / "ae.safetensors").chmod(0o000)
    file = models / "vae" / "ae.safetensors"
    refused(run("inspect", model=models, before=before), file, "permission denied")
    models.chmod(0o000)
    refused(run("inspect", model=models, before=before), models, "permission denied")
    refused(run("inspect", vae=file, before=before), file, "permission denied")
    models.chmod(0o755)


# --- The same part more than once ------------------------------------------------------


def test_sft_is_safetensors(models: Path, tiny: Path, tmp_path: Path) -> None:
    for file in COMFYUI.values():
        (models / file).rename((models / file).with_suffix(".sft"))
    found = report(model=models)
    assert found["missing"] == []
    assert found["vae"]["path"].endswith("ae.sft")
    original = tmp_path / "original"
    shutil.copytree(tiny / "original", original)
    for name in ("ovis_image", "ae"):
        (original / f"{name}.safetensors").rename(original / f"{name}.SFT".lower())
    assert report(model=original)["missing"] == []


def copied(source: Path, target: Path) -> None:
    shutil.copy(source, target)


COPIES = {
    "copy": copied,
    "link": lambda s, t: t.symlink_to(s),
    "hard link": lambda s, t: os.link(s, t),
}


@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("part", COMFYUI)
def test_the_same_bytes_are_one_file(models: Path, how: str, part: str) -> None:
    source = models / COMFYUI[part]
    target = source.parent / "FLUX1" / source.name
    target.parent.mkdir()
    COPIES[how](source, target)
    found = report(model=models)
    assert Path(found[part]["path"]) == source
    assert found["notes"] == []
    assert [file["path"] for file in found["skipped"]] == [str(target)]
    assert "same bytes" in found["skipped"][0]["reason"]


def changed(source: Path, target: Path) -> Path:
    """A file of the same shapes with other numbers."""
    target.parent.mkdir(exist_ok=True)
    save_file({name: value * 1.01 for name, value in load_file(source).items()}, target)
    return target


@pytest.mark.parametrize(
    ("part", "other"),
    [
        ("vae", "vae/a-vae.safetensors"),
        ("vae", "vae/FLUX1/ae.safetensors"),
        ("transformer", "diffusion_models/a-finetune.safetensors"),
        ("transformer", "diffusion_models/older/ovis_image_f32.safetensors"),
        ("text_encoder", "text_encoders/a-text-encoder.safetensors"),
    ],
)
def test_of_different_ones_the_better_match(models: Path, part: str, other: str) -> None:
    source = models / COMFYUI[part]
    loser = changed(source, models / other)
    found = report(model=models)
    assert Path(found[part]["path"]) == source
    (note,) = found["notes"]
    assert f"`{source}` is the better match" in note and str(loser) in note
    assert reasons(found) == {loser.name: note}
    flag = part.replace("_", "-")
    assert f"--{flag} names another" in note
    assert Path(report(model=models, **{part: loser})[part]["path"]) == loser
    assert f"note: {note}" in run("inspect", model=models).stdout


def test_the_choice_is_in_the_log(models: Path, tmp_path: Path) -> None:
    changed(models / COMFYUI["vae"], models / "vae" / "other.safetensors")
    small = {"prompt": "a", "width": 32, "height": 32, "steps": 1, "device": "cpu"}
    result = run("generate", model=models, out=tmp_path / "image.png", **small)
    assert result.returncode == 0, result.stderr
    assert "is the better match for the VAE" in result.stderr


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
    """Every tensor that a geometry is derived from, in every dimension: zero, or so large
    that bytes and products overflow, with no bytes in the file since another is zero."""
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
    """A diffusers folder whose transformer is in shards."""
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


# --- Folders ---------------------------------------------------------------------------


def test_only_a_model_index(tiny: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    shutil.copy(tiny / "diffusers" / "model_index.json", model)
    said = refused(run("inspect", model=model), model, "is incomplete", "model_index.json")
    assert "hf download" in said
    assert "Give a diffusers folder" not in said


def test_a_part_without_weights(diffusers: Path) -> None:
    for file in (diffusers / "transformer").glob("*.safetensors"):
        file.unlink()
    said = refused(run("inspect", model=diffusers), diffusers / "transformer", "no weights")
    assert "Give a diffusers folder" not in said


def test_gguf_alone(tmp_path: Path, models: Path) -> None:
    folder = tmp_path / "gguf"
    file = beside(folder, "ovis_image-Q4_K_M.gguf", b"GGUF\3\0\0\0" + bytes(99))
    for where in (folder, file):
        said = refused(run("inspect", where), file, "a GGUF file")
        assert "ovis_image_bf16.safetensors" in said and "ickle" not in said
    (models / COMFYUI["transformer"]).unlink()
    shutil.copy(file, models / "diffusion_models")
    refused(run("inspect", model=models), "ovis_image-Q4_K_M.gguf", "a GGUF file")


def test_what_a_folder_has_is_said(tiny: Path, tmp_path: Path) -> None:
    outer = tmp_path / "downloads"
    shutil.copytree(tiny / "diffusers", outer / "Ovis")
    beside(outer, "notes\n\x1b.txt")
    said = refused(run("inspect", model=outer), r"`notes\n\u{1b}.txt`", "`Ovis/`")
    assert "Name its folder `Ovis`" in said
    unfinished = tmp_path / "unfinished"
    beside(unfinished, "ovis_image.safetensors.incomplete", b"x")
    refused(run("inspect", model=unfinished), unfinished, "the start of a download")


def test_files_side_by_side(models: Path, tiny: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for file in COMFYUI.values():
        shutil.copy(models / file, flat)
    for file in (tiny / "diffusers" / "tokenizer").iterdir():
        shutil.copy(file, flat)
    found = report(model=flat)
    assert found["missing"] == [] and found["skipped"] == []


def test_files_that_stand_for_their_folder(diffusers: Path) -> None:
    expected = report(model=diffusers)
    assert report(model=diffusers / "model_index.json") == expected
    part = {"transformer": diffusers / "transformer"}
    assert (
        report(model=diffusers / "transformer" / "config.json")["transformer"]
        == (report(**part)["transformer"])
    )
    assert report(transformer=diffusers)["transformer"] == expected["transformer"]


# --- Hugging Face's cache --------------------------------------------------------------


@pytest.fixture
def cache(tiny: Path, tmp_path: Path) -> Path:
    """`HF_HOME` with the model in its `hub`."""
    fake_files.hub_cache(tmp_path / "hf" / "hub", tiny / "diffusers")
    return tmp_path / "hf"


def repository(cache: Path) -> Path:
    return next((cache / "hub").iterdir())


@pytest.mark.parametrize(
    "path",
    [
        "",
        "hub",
        "hub/models--AIDC-AI--Ovis-Image-7B",
        "hub/models--AIDC-AI--Ovis-Image-7B/snapshots",
    ],
)
def test_a_folder_of_the_cache(cache: Path, path: str) -> None:
    found = report(model=cache / path)
    assert (found["layout"], found["missing"]) == ("diffusers", [])
    assert found["name"] == "Ovis-Image-7B"


@pytest.mark.parametrize(
    "name",
    [
        "AIDC-AI/Ovis-Image-7B",
        "https://huggingface.co/AIDC-AI/Ovis-Image-7B",
        "hf://AIDC-AI/Ovis-Image-7B",
    ],
)
@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HOME"])
def test_a_repository_by_name(cache: Path, tmp_path: Path, name: str, variable: str) -> None:
    home = {"HOME": str(tmp_path / "nowhere"), "XDG_CACHE_HOME": ""}
    place = {"HF_HUB_CACHE": cache / "hub", "HF_HOME": cache}.get(variable, tmp_path)
    if variable == "XDG_CACHE_HOME":
        cache.rename(tmp_path / "huggingface")
    if variable == "HOME":
        (tmp_path / ".cache").mkdir()
        cache.rename(tmp_path / ".cache" / "huggingface")
    environment = home | {variable: str(place)}
    found = report(model=name, environment=environment, cwd=tmp_path)
    assert found["name"] == "Ovis-Image-7B" and found["missing"] == []


def test_a_repository_that_is_not_there(cache: Path, tmp_path: Path) -> None:
    environment = {"HF_HOME": str(cache), "HOME": str(tmp_path)}
    said = refused(
        run("inspect", model="AIDC-AI/Ovis-Image-8B", environment=environment, cwd=tmp_path),
        "no file or folder `AIDC-AI/Ovis-Image-8B`",
        str(cache / "hub"),
    )
    assert "never downloads" in said
    for address in ("https://example.org/ae.safetensors", "s3://bucket/ae.safetensors"):
        refused(run("inspect", vae=address), address, "never downloaded")


CACHES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no such revision": (lambda r: (r / "refs/main").write_text("abc"), "revision abc"),
    "revision that leads out": (lambda r: (r / "refs/main").write_text("../../.."), "no revision"),
    "revision of 1 MB": (lambda r: (r / "refs/main").write_text("a" * 10**6), "larger than"),
    "no snapshot": (lambda r: shutil.rmtree(next((r / "snapshots").iterdir())), "is incomplete"),
    "no blobs": (lambda r: shutil.rmtree(r / "blobs"), "is a link to"),
    "no transformer": (
        lambda r: [shutil.rmtree(d) for d in (r / "snapshots").glob("*/*/")],
        "is incomplete",
    ),
}


@pytest.mark.parametrize("kind", CACHES)
def test_a_cache_that_is_incomplete(cache: Path, kind: str) -> None:
    change, words = CACHES[kind]
    change(repository(cache))
    refused(run("inspect", model=repository(cache)), words)


def test_a_cache_without_refs(cache: Path) -> None:
    shutil.rmtree(repository(cache) / "refs")
    assert report(model=repository(cache))["missing"] == []
    (repository(cache) / "snapshots" / "ffff").mkdir()
    refused(run("inspect", model=repository(cache)), "several", "ffff")


# --- What people type ------------------------------------------------------------------

TYPED = ["'{}'", '"{}"', "{} ", " {}/", "{}//", "“{}”", "file://{}"]


@pytest.mark.parametrize("typed", TYPED)
def test_what_comes_along_when_a_path_is_copied(diffusers: Path, typed: str) -> None:
    assert report(typed.format(diffusers)) == report(model=diffusers)
    assert report(vae=typed.format(diffusers / "vae"))["vae"]["files"] == 1


def test_paths_as_windows_and_shells_have_them(diffusers: Path, tmp_path: Path) -> None:
    expected = report(model=diffusers)
    home = {"HOME": str(tmp_path), "MODELS": str(tmp_path)}
    typed = ["~/model", "%USERPROFILE%\\model", "$HOME/model", "${MODELS}/model", "%MODELS%/model"]
    for path in [*typed, "model", ".\\model\\", '"model\\"']:
        found = report(path, environment=home, cwd=tmp_path)
        assert found["parameters"] == expected["parameters"], path
    # A name that is there is taken as it stands.
    (tmp_path / "$HOME").symlink_to(diffusers)
    assert report("$HOME", environment=home, cwd=tmp_path)["missing"] == []


@pytest.mark.parametrize(
    "path", ["", " ", "''", "nowhere", "nowhere/", "~/nowhere", "%NO%", "a\nb"]
)
def test_paths_to_nothing(tmp_path: Path, path: str) -> None:
    refused(run("inspect", path, cwd=tmp_path), "no such file or folder")


# --- Tokenizers ------------------------------------------------------------------------

TOKENIZERS = {
    "empty": (b"", "an empty file"),
    "broken": (b"{", "cannot be built"),
    "other JSON": (b"[1]", "cannot be built"),
    "web page": (b"<!doctype html>", "a web page"),
    "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    "another model's": (
        json.dumps(
            {
                "version": "1.0",
                "truncation": None,
                "padding": None,
                "added_tokens": [],
                "normalizer": None,
                "pre_tokenizer": None,
                "post_processor": None,
                "decoder": None,
                "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []},
            }
        ).encode(),
        "another model's",
    ),
}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_tokenizer_that_is_none(tiny: Path, tmp_path: Path, kind: str) -> None:
    content, words = TOKENIZERS[kind]
    file = beside(tmp_path, "tokenizer.json", content)
    for where in (file, tmp_path):
        refused(run("inspect", model=tiny / "diffusers", tokenizer=where), file, words)


def test_a_tokenizer_of_a_larger_model(diffusers: Path) -> None:
    file = diffusers / "tokenizer" / "tokenizer.json"
    fields = json.loads(file.read_text("utf-8"))
    fields["added_tokens"].append(fields["added_tokens"][0] | {"id": 10**6, "content": "<far>"})
    fields["model"]["vocab"]["<far>"] = 10**6
    file.write_text(json.dumps(fields), "utf-8")
    refused(run("inspect", model=diffusers), file, "another model's", "1000000")


def test_vocabulary_files_that_are_none(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tokenizer"
    shutil.copytree(tiny / "original" / "Ovis2.5-2B", folder)
    for name, content in {"merges.txt": b"a b c\n", "vocab.json": b'{"a": -1}'}.items():
        kept = (folder / name).read_bytes()
        (folder / name).write_bytes(content)
        result = run("inspect", model=tiny / "diffusers", tokenizer=folder / "vocab.json")
        refused(result, folder / name, "cannot be built")
        (folder / name).write_bytes(kept)
