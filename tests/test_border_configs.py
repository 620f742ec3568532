"""JSON files beside weights: configs and tokenizers, valid, broken, or of other models.

Their numbers must not determine an allocation.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from border import beside, refused, report, run

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
VALID = [("transformer", "num_layers", None)]
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
    """With a byte-order mark and CR LF line endings."""
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


# --- Tokenizers ------------------------------------------------------------------------

LIBRARY_WORDS = ("untagged", "enum", "variant", "Wrapper", "u32", "HashMap")
"""What libraries say of their own types."""

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
        said = refused(run("inspect", model=tiny / "diffusers", tokenizer=where), file, words)
        assert not any(name in said for name in LIBRARY_WORDS)


def test_a_tokenizer_of_a_larger_model(diffusers: Path) -> None:
    file = diffusers / "tokenizer" / "tokenizer.json"
    fields = json.loads(file.read_text("utf-8"))
    fields["added_tokens"].append(fields["added_tokens"][0] | {"id": 10**6, "content": "<far>"})
    fields["model"]["vocab"]["<far>"] = 10**6
    file.write_text(json.dumps(fields), "utf-8")
    refused(run("inspect", model=diffusers), file, "another model's", "1000000")


@pytest.mark.parametrize("part", ["pre_tokenizer", "normalizer", "decoder", "model"])
def test_a_tokenizer_of_a_newer_library(diffusers: Path, part: str) -> None:
    file = diffusers / "tokenizer" / "tokenizer.json"
    fields = json.loads(file.read_text("utf-8"))
    fields[part] = {"type": "ByteLevelV2"}
    file.write_text(json.dumps(fields), "utf-8")
    said = refused(run("inspect", model=diffusers), file, "another version of the tokenizers")
    assert "from the model's repository" in said
    assert not any(name in said for name in LIBRARY_WORDS)


FOUND = {
    "empty": b"",
    "LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
    "web page": b"<!doctype html>",
    "cut off": b'{"version": "1.0", "added_tokens": [',
    "dead link": None,
}


@pytest.mark.parametrize("kind", FOUND)
def test_a_broken_tokenizer_that_is_found(diffusers: Path, tmp_path: Path, kind: str) -> None:
    """A broken tokenizer is the one that was meant: no worker starts without it."""
    file = diffusers / "tokenizer" / "tokenizer.json"
    file.unlink()
    if FOUND[kind] is None:
        file.symlink_to("../../blobs/abc")
    else:
        file.write_bytes(FOUND[kind])
    out = tmp_path / "image.png"
    small = {"model": diffusers, "device": "cpu"}
    for result in (
        run("inspect", model=diffusers),
        run("generate", **small, prompt="a", steps=1, out=out),
        run("serve", **small, listen="127.0.0.1:0"),
    ):
        said = refused(result, file)
        assert kind != "LFS pointer" or "a Git LFS pointer" in said
    # The only tokenizer belongs to another model, so there is none for this one.
    file.unlink()
    file.write_text('{"model": {"vocab": {}}}')
    assert report(model=diffusers)["missing"] == ["tokenizer"]


def test_vocabulary_files_that_are_none(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tokenizer"
    shutil.copytree(tiny / "original" / "Ovis2.5-2B", folder)
    for name, content in {"merges.txt": b"a b c\n", "vocab.json": b'{"a": -1}'}.items():
        kept = (folder / name).read_bytes()
        (folder / name).write_bytes(content)
        result = run("inspect", model=tiny / "diffusers", tokenizer=folder / "vocab.json")
        said = refused(result, folder / name, "cannot be built")
        assert not any(word in said for word in LIBRARY_WORDS)
        (folder / name).write_bytes(kept)
