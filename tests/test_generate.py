"""`generate`: the files that it writes, and what it refuses before it loads anything."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file

from real_worker import command, generate
from reference import relative_error

PROMPT = 'a poster with the text "HELLO", zürich 雪'


def arguments(tiny: Path, out: Path, **others: object) -> dict[str, object]:
    return {
        "model": tiny / "diffusers",
        "prompt": PROMPT,
        "width": 64,
        "height": 48,
        "steps": 2,
        "cfg": 5,
        "seed": 7,
        "device": "cpu",
        "precision": "f32",
        "out": out / "image.png",
        **others,
    }


def parameters(file: Path) -> dict:
    with Image.open(file) as image:
        image.load()
        return json.loads(image.text["ovis-worker"])


def test_the_png_remembers_every_parameter(tiny: Path, tmp_path: Path) -> None:
    result = generate(
        **arguments(
            tiny,
            tmp_path,
            negative="blurry",
            shift=3,
            cfg=4.5,
            seed=2**63 + 7,
            sampler="dpmpp_2m",
            scheduler="karras",
            cache="safe",
            guidance_interval="0.9,0.25",
        )
    )
    file = tmp_path / "image.png"
    assert result.stdout.splitlines() == [str(file)]
    with Image.open(file) as image:
        assert (image.size, image.mode) == ((64, 48), "RGB")
    found = parameters(file)
    assert found.pop("worker").startswith("ovis-worker ")
    assert found == {
        "model": "diffusers",
        "prompt": PROMPT,
        "negative": "blurry",
        "width": 64,
        "height": 48,
        "steps": 2,
        "cfg": 4.5,
        "seed": 2**63 + 7,
        "batch": 1,
        "batch_entry": 0,
        "shift": 3.0,
        "sampler": "dpmpp_2m",
        "scheduler": "karras",
        "cache": "safe",
        "guidance_interval": [0.9, 0.25],
        "loras": [],
        "device": "cpu",
        "precision": "f32",
        "max_sequence_length": 256,
    }


def test_what_the_png_remembers_makes_it_again(tiny: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir(), second.mkdir()
    changed = {"max_sequence_length": 64, "sampler": "euler_ancestral", "scheduler": "beta"}
    generate(**arguments(tiny, first, **changed))
    found = parameters(first / "image.png")
    names = ("prompt", "negative", "width", "height", "steps", "cfg", "seed", "batch", "shift")
    names += ("sampler", "scheduler", "precision", "max_sequence_length")
    again = {name: found[name] for name in names}
    generate(model=tiny / "diffusers", device="cpu", out=second / "image.png", **again)
    assert (first / "image.png").read_bytes() == (second / "image.png").read_bytes()


def test_a_batch_numbers_its_files(tiny: Path, tmp_path: Path) -> None:
    latents = tmp_path / "latents.safetensors"
    result = generate(**arguments(tiny, tmp_path, batch=3, latents_out=latents))
    files = [tmp_path / f"image-{index}.png" for index in range(3)]
    assert result.stdout.splitlines() == [str(file) for file in files]
    assert sorted(tmp_path.glob("*.png")) == files
    assert [parameters(file)["batch_entry"] for file in files] == [0, 1, 2]
    images = [np.asarray(Image.open(file)) for file in files]
    assert not np.array_equal(images[0], images[1])
    with safe_open(latents, "pt") as file:
        assert list(file.keys()) == ["latents"]
    found = load_file(latents)["latents"]
    assert (found.dtype, found.shape) == (torch.float32, (3, 16, 6, 8))


def test_the_latents_are_raw_vae_latents(tiny: Path, tmp_path: Path, worker) -> None:
    latents = tmp_path / "latents.safetensors"
    generate(**arguments(tiny, tmp_path, latents_out=latents))
    decoded = worker.decode(load_file(latents)["latents"])[0]
    written = np.asarray(Image.open(tmp_path / "image.png"))
    assert np.abs((decoded * 255).round().numpy() - written).max() == 0


def test_generate_and_serve_make_the_same(tiny: Path, tmp_path: Path, worker) -> None:
    latents = tmp_path / "latents.safetensors"
    generate(**arguments(tiny, tmp_path, latents_out=latents, batch=2))
    positive, negative = worker.encode([PROMPT, ""]).split(1)
    served = worker.denoise(torch.zeros(2, 16, 6, 8), positive, negative, seed=7, steps=2, cfg=5.0)
    assert relative_error(served, load_file(latents)["latents"]) <= 1e-6


def test_bf16_weights_by_name(tiny: Path, tmp_path: Path) -> None:
    latents = {}
    for precision in ("f32", "bf16"):
        file = tmp_path / f"{precision}.safetensors"
        generate(**arguments(tiny, tmp_path, precision=precision, latents_out=file))
        latents[precision] = load_file(file)["latents"]
    assert latents["bf16"].dtype == torch.float32
    assert 1e-4 < relative_error(latents["bf16"], latents["f32"]) < 0.2


def test_progress_goes_to_stderr(tiny: Path, tmp_path: Path) -> None:
    lines = generate(**arguments(tiny, tmp_path, steps=3)).stderr.splitlines()
    steps = [line.split()[1] for line in lines if line.startswith("step ")]
    assert steps == ["1/3", "2/3", "3/3"]
    assert any(line.startswith("loading transformer: 100 %") for line in lines)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"width": 100}, ["100 x 48", "multiple of 16"]),
        ({"height": 0}, ["--height is `0`", "from 16 to 16384"]),
        ({"width": 16400, "height": 16000}, ["--width is `16400`", "from 16 to 16384"]),
        ({"width": 9600, "height": 9600}, ["1 image(s) of 9600 x 9600", "pixels in all"]),
        ({"width": 1024, "height": 1024, "batch": 100}, ["100 image(s)", "pixels in all"]),
        ({"width": 1040, "height": 256}, ["1040 x 256", "4 to 1"]),
        ({"width": 64, "height": 272}, ["64 x 272", "4 to 1"]),
        ({"batch": 0}, ["--batch is `0`", "from 1 to 1024"]),
        ({"device": "tpu"}, ["`tpu`", "not a device"]),
        ({"device": "cuda:x"}, ["`cuda:x`", "not a device"]),
        ({"sampler": "dpm"}, ["`dpm`"]),
        ({"scheduler": "even"}, ["`even`"]),
        ({"steps": 0}, ["steps is 0"]),
        ({"steps": 1001}, ["steps is 1001"]),
        ({"cfg": 101}, ["cfg is 101"]),
        ({"cfg": "nan"}, ["cfg is NaN"]),
        ({"shift": 0}, ["shift is 0"]),
        ({"shift": "inf"}, ["shift is inf"]),
        ({"max_sequence_length": 0}, ["max_sequence_length is 0"]),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else "",
)
def test_a_wrong_value_is_refused_before_loading(
    tiny: Path, tmp_path: Path, wrong: dict, words: list[str]
) -> None:
    result = command("generate", **arguments(tiny, tmp_path, **wrong))
    assert result.returncode != 0
    error, *hint = result.stderr.splitlines()
    assert error.startswith("error: ")
    assert all(word in error for word in words), error
    assert [line[:6] for line in hint] == ["hint: "]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong",
    [{"shift": "more"}, {"seed": 2**64}, {"steps": "many"}, {"precision": "f8"}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_value_that_does_not_parse_is_named(tiny: Path, tmp_path: Path, wrong: dict) -> None:
    result = command("generate", **arguments(tiny, tmp_path, **wrong))
    assert result.returncode == 2
    ((name, value),) = wrong.items()
    assert f"--{name}" in result.stderr and str(value) in result.stderr


@pytest.mark.parametrize("name", ["generate", "serve", "bench"])
def test_fp8_is_refused_on_a_cpu(tiny: Path, tmp_path: Path, name: str) -> None:
    values = arguments(tiny, tmp_path, precision="fp8")
    if name != "generate":
        values = {given: values[given] for given in ("model", "device", "precision")}
    result = command(name, **values)
    assert result.returncode == 1
    error = next(line for line in result.stderr.splitlines() if line.startswith("error: "))
    assert "compute capability 8.9" in error and "this is a CPU" in error
    assert error.endswith("use --precision bf16")


def test_dtype_is_another_word_for_precision(tiny: Path, tmp_path: Path) -> None:
    values = arguments(tiny, tmp_path)
    generate(dtype=values.pop("precision"), **values)
    assert parameters(tmp_path / "image.png")["precision"] == "f32"


def test_a_gpu_that_is_not_there(tiny: Path, tmp_path: Path) -> None:
    result = command("generate", **arguments(tiny, tmp_path, device="cuda:99"))
    assert result.returncode == 1
    error, hint = result.stderr.splitlines()
    without_support = "error: this ovis-worker was built without GPU support"
    assert error == without_support or error.startswith("error: GPU 99 cannot be opened: ")
    assert hint.startswith("hint: ")


def test_a_file_that_cannot_be_written(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "nowhere"
    result = command("generate", **arguments(tiny, folder))
    assert result.returncode == 1
    assert f"error: {folder / 'image.png'} cannot be written: " in result.stderr


def test_a_cut_prompt_is_warned_of(tiny: Path, tmp_path: Path, reference) -> None:
    prompt = "a cat and a dog in the snow " * 10
    own, _ = reference.lost_tokens(prompt, 32)
    result = generate(**arguments(tiny, tmp_path, prompt=prompt, max_sequence_length=32))
    assert f"warning: the prompt is too long: its last {own} tokens were cut" in result.stderr
    assert "negative prompt" not in result.stderr
