"""The demo model, end to end: a prompt goes in, and OCR reads its words in the picture."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import evaluate
import ocr
import posters
from real_worker import ROOT, RealWorker, binary, generate
from tiny import layouts

MODEL = ROOT / "worker" / "demo" / "model"
POSTER = ROOT / "worker" / "demo" / "poster.png"
STEPS = 20
GUIDANCE = 4.5

# One entry of each list, and how OCR reads it. Sizes outside the training data are measured, but
# not promised.
PROMISED = [name for name in evaluate.LISTS if name != "new_sizes"]
HELD_OUT = [(name, posters.read_held_out(name)[3]) for name in PROMISED]

OWN = [
    ('Sale poster, headline "50% OFF!" in bold red letters on a yellow background', "50%\nOFF!"),
    ('"Mokau-7" in tall navy letters at the bottom on a pink striped background', "Mokau-7"),
    ('a brown wooden board with the text "春天好" in cream letters at the top', "春天好"),
]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealWorker]:
    """A worker that was started without a model, so that it serves the demo model."""
    log = tmp_path_factory.mktemp("demo") / "worker.log"
    with RealWorker(None, log, device="cpu") as running:
        yield running


def draw(worker: RealWorker, prompt: str, seed: int, width: int = 256, height: int = 256):
    """A picture, uint8 [H, W, 3], by the three jobs of the nodes."""
    latent = worker.denoise(
        torch.zeros(1, 16, height // 8, width // 8),
        worker.encode([prompt]),
        worker.encode([""]),
        seed=seed,
        steps=STEPS,
        cfg=GUIDANCE,
    )
    return (worker.decode(latent)[0] * 255).round().byte().numpy()


def read(picture: np.ndarray, text: str) -> str:
    """The text that OCR reads where `text` is expected.

    It is in lower case, because O and o look the same.
    """
    lines = ocr.read(picture, not text.isascii(), text.count("\n") + 1)
    return "\n".join(lines).lower()


@pytest.mark.parametrize(("name", "item"), HELD_OUT, ids=[name for name, _ in HELD_OUT])
def test_held_out_words(demo: RealWorker, name: str, item: tuple[int, posters.Poster]) -> None:
    seed, poster = item
    text = "\n".join(poster.lines)
    picture = draw(demo, poster.prompt, seed, poster.width, poster.height)
    assert picture.shape == (poster.height, poster.width, 3)
    assert read(picture, text) == text.lower()


@pytest.mark.parametrize(("prompt", "text"), OWN, ids=[text for _, text in OWN])
def test_words_in_a_designers_prompt(demo: RealWorker, prompt: str, text: str) -> None:
    assert read(draw(demo, prompt, seed=1), text) == text.lower()


def test_the_readmes_first_command_draws_its_first_picture(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    first = re.search(r"```sh\n(.*?)```", readme, re.DOTALL)[1]
    words = shlex.split(first.replace("\\\n", " "), comments=True)
    cargo, words = words[: words.index("--")], words[words.index("--") + 1 :]
    assert words[0] == "generate" and "--model" not in words
    assert cargo == ["cargo", "run", "--release"]
    assert re.search(r"!\[[^]]*\]\(([^)]*)\)", readme)[1] == str(POSTER.relative_to(ROOT))
    out = words[words.index("--out") + 1]
    subprocess.run([binary(), *words], cwd=tmp_path, check=True, capture_output=True)
    drawn, kept = (np.asarray(Image.open(f), np.int16) for f in (tmp_path / out, POSTER))
    # Different processors sum in different orders.
    assert np.abs(drawn - kept).max() <= 1
    assert read(kept.astype(np.uint8), "SUMMER") == "summer"


def test_diffusers_draws_the_same_picture(demo: RealWorker) -> None:
    prompt = 'Card with the headline "MIRA?" in white letters on a navy gradient'
    poster = posters.Poster(prompt, ("MIRA?",))
    pipeline = evaluate.load_pipeline(MODEL)
    theirs = evaluate.sample(pipeline, [(5, poster)], STEPS, GUIDANCE, batch=1)[0]
    assert np.abs(draw(demo, prompt, seed=5) - theirs.astype(np.int16)).max() <= 1


def test_the_other_layouts_draw_the_same_picture(tmp_path: Path) -> None:
    """A checkpoint without configs leaves some of the geometry to rules.

    Its shapes do not contain RoPE axes, norm groups and the autoencoder's scale, for which the demo
    model follows the same rules as the 7 B model.
    """
    parts = layouts.read_diffusers(MODEL)
    layouts.write_original(tmp_path / "original", *parts)
    layouts.write_comfyui(tmp_path / "comfyui", *parts)
    pictures = []
    for folder in (MODEL, tmp_path / "original", tmp_path / "comfyui" / "models"):
        out = tmp_path / "picture.png"
        generate(
            model=folder, prompt='"TAXI" in black letters', steps=4, cfg=GUIDANCE,
            width=256, height=256, device="cpu", out=out,
        )  # fmt: skip
        pictures.append(np.asarray(Image.open(out), np.int16))
    assert np.abs(pictures[1] - pictures[0]).max() <= 1
    assert np.abs(pictures[2] - pictures[0]).max() <= 1


def test_it_fits_in_the_repository() -> None:
    sizes = [file.stat().st_size for file in MODEL.rglob("*") if file.is_file()]
    assert sum(sizes) <= 40_000_000
    assert max(sizes) <= 15_000_000
