"""The demo model, end to end: a prompt goes in, and OCR reads its words in the picture."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import gallery
from demo_pictures import GUIDANCE, STEPS, draw
from judging import lists, readers
from judging.lists import Item
from judging.scorer import judge
from judging.sources import Sampling, load_pipeline, sampled
from posters.poster import Phrase, Poster
from real_worker import ROOT, RealWorker, binary, generate
from tiny import layouts

MODEL = ROOT / "worker" / "demo" / "model"
POSTER = ROOT / "worker" / "demo" / "poster.png"

# An entry of two lists of words that the model was trained for; `OWN` has single English words.
HELD_OUT = [(name, lists.read(name)[3]) for name in ("two_lines", "chinese")]

OWN = [
    ('Sale poster, headline "50% OFF!" in bold red letters on a yellow background', "50% OFF!"),
    ('"Mokau-7" in tall navy letters at the bottom on a pink striped background', "Mokau-7"),
]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealWorker]:
    """A worker that was started without a model, so that it serves the demo model."""
    log = tmp_path_factory.mktemp("demo") / "worker.log"
    with RealWorker(None, log, device="cpu") as running:
        yield running


def assert_shows(picture: np.ndarray, *texts: str) -> None:
    """A reader finds these quoted words in the picture, and no others."""
    poster = Poster("", tuple(Phrase(text) for text in texts))
    scores = judge(readers.load("paddle"), picture, poster)
    assert scores.right, scores.found


@pytest.mark.parametrize(("name", "item"), HELD_OUT, ids=[name for name, _ in HELD_OUT])
def test_held_out_words(demo: RealWorker, name: str, item: Item) -> None:
    poster = item.poster
    picture = draw(demo, poster.prompt, item.seed, poster.width, poster.height)
    assert picture.shape == (poster.height, poster.width, 3)
    assert_shows(picture, *(phrase.text for phrase in poster.phrases))


@pytest.mark.parametrize(("prompt", "text"), OWN, ids=[text for _, text in OWN])
def test_words_in_a_designers_prompt(demo: RealWorker, prompt: str, text: str) -> None:
    assert_shows(draw(demo, prompt, seed=1), text)


def test_the_readmes_first_command_draws_its_first_picture(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    first = re.search(r"```sh\n(.*?)```", readme, re.DOTALL)[1]
    install, command = first.replace("\\\n", " ").splitlines()
    package = install.removeprefix("pip install ")
    assert f"\n{package}==" in (ROOT / "requirements.txt").read_text("utf-8")
    program, *words = shlex.split(command)
    assert program == "ovis-worker"
    assert words[0] == "generate" and "--model" not in words
    assert "`cargo run --release -- generate`" in readme
    assert re.search(r"!\[[^]]*\]\(([^)]*)\)", readme)[1] == str(POSTER.relative_to(ROOT))
    out = words[words.index("--out") + 1]
    subprocess.run([binary(), *words], cwd=tmp_path, check=True, capture_output=True)
    drawn, kept = (np.asarray(Image.open(f), np.int16) for f in (tmp_path / out, POSTER))
    # Different processors sum in different orders.
    assert np.abs(drawn - kept).max() <= 1
    assert_shows(kept.astype(np.uint8), "SUMMER")


def test_diffusers_draws_the_same_picture(demo: RealWorker) -> None:
    prompt = 'Card with the headline "MIRA?" in white letters on a navy gradient'
    item = Item(5, Poster(prompt, ()), frozenset())
    theirs = sampled(load_pipeline(MODEL), [item], Sampling(STEPS, GUIDANCE))[0]
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


def test_the_gallery_shows_the_prompts_of_its_readme() -> None:
    readme = (ROOT / "worker" / "demo" / "README.md").read_text("utf-8")
    for name, exhibit in gallery.EXHIBITS.items():
        assert f" {exhibit.prompt} |" in readme
        assert f"](gallery/{name}.jpg)" in readme
        with Image.open(ROOT / "worker" / "demo" / "gallery" / f"{name}.jpg") as picture:
            assert picture.size == (exhibit.width, exhibit.height)


def test_it_fits_in_the_repository() -> None:
    files = [file for file in MODEL.rglob("*") if file.is_file() and file.parent.name != "loras"]
    sizes = [file.stat().st_size for file in files]
    assert sum(sizes) <= 45_000_000
    assert max(sizes) <= 15_000_000
