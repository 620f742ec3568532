"""Folders of weights: what else may be in them, and every way to name one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

import fake_files
from border import COMFYUI, beside, reasons, refused, report, run

SD3_CONFIG = {
    "_class_name": "AutoencoderKL",
    "block_out_channels": [32, 32, 64, 64],
    "latent_channels": 16,
    "layers_per_block": 2,
    "scaling_factor": 1.5305,
    "shift_factor": 0.0609,
}


# --- Other files beside the weights ----------------------------------------------------


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
    """Its config may belong to another model."""
    (models / "vae" / "FLUX1").mkdir()
    weights = models / "vae" / "FLUX1" / "diffusion_pytorch_model.safetensors"
    (models / "vae" / "ae.safetensors").rename(weights)
    beside(models, "vae/FLUX1/config.json", SD3_CONFIG)
    for where in ({"model": models}, {"vae": weights}, {"vae": weights.parent}):
        assert report(**where)["vae"]["geometry"]["scaling_factor"] == 0.3611
    # Without the files beside it that only ComfyUI has.
    shutil.rmtree(models / "diffusion_models")
    shutil.rmtree(models / "text_encoders")
    assert report(model=models)["vae"]["geometry"]["scaling_factor"] == 0.3611


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
    """Named pipes, folders with a file's name, circular links, and files of other formats."""
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
    # Through the link to the parent folder, the other parts are candidates too.
    others = {Path(COMFYUI[part]).name for part in ("transformer", "text_encoder")}
    assert reasons(found).keys() - others == {"kl-f8.ckpt", "flux1-dev-Q4.gguf"}
    assert "is damaged" in reasons(found)["flux1-dev-Q4.gguf"]


def test_names_that_are_no_text(models: Path) -> None:
    """File names that are not UTF-8, or contain terminal escape sequences."""
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
    """A world-readable folder, and a function that runs a command as an unprivileged user."""
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
    for file in folder.rglob("*.*"):
        file.chmod(0o755)
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
    """A file with the same shapes and other values."""
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


def test_a_damaged_gguf_alone(tmp_path: Path, models: Path) -> None:
    folder = tmp_path / "gguf"
    file = beside(folder, "ovis_image-Q4_K_M.gguf", b"GGUF\3\0\0\0" + b"\1" * 99)
    for where in (folder, file):
        said = refused(run("inspect", where), file, "is damaged")
        assert "ickle" not in said
    (models / COMFYUI["transformer"]).unlink()
    shutil.copy(file, models / "diffusion_models")
    refused(run("inspect", model=models), "ovis_image-Q4_K_M.gguf", "is damaged")


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


def test_a_description_in_the_folder_one_is_in(diffusers: Path) -> None:
    assert report("model_index.json", cwd=diffusers)["missing"] == []


def test_paths_as_windows_and_shells_have_them(diffusers: Path, tmp_path: Path) -> None:
    expected = report(model=diffusers)
    home = {"HOME": str(tmp_path), "MODELS": str(tmp_path)}
    typed = ["~/model", "%USERPROFILE%\\model", "$HOME/model", "${MODELS}/model", "%MODELS%/model"]
    for path in [*typed, "model", ".\\model\\", '"model\\"']:
        found = report(path, environment=home, cwd=tmp_path)
        assert found["parameters"] == expected["parameters"], path
    # A name that exists is used as it is.
    (tmp_path / "$HOME").symlink_to(diffusers)
    assert report("$HOME", environment=home, cwd=tmp_path)["missing"] == []


@pytest.mark.parametrize("path", [" ", "''", "nowhere", "nowhere/", "~/nowhere", "%NO%", "a\nb"])
def test_paths_to_nothing(tmp_path: Path, path: str) -> None:
    refused(run("inspect", path, cwd=tmp_path), "no such file or folder")
