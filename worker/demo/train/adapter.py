#!/usr/bin/env python3
"""Trains the adapter that ships with the demo model: a theme of colours for any poster.

    adapter.py OUT.safetensors [--model DIR] [--steps 800] [--batch 32] [--rank 4] [--device cuda]
        [--minutes M]

With the adapter, a prompt that asks for any colours and any surface gives the picture that the
model alone gives for the same prompt with the theme's colours and surface. No pictures are needed:
the model teaches itself. Along the path from noise to a picture, the model without the adapter
predicts a velocity for the themed prompt, and the adapter learns to predict the same for the other
one. Predictions for the empty prompt stay as they are, so that guidance works as before. The
adapter is low-rank updates of all linear layers of the transformer's blocks (Hu et al. 2021, by
peft), in peft's layout. Takes a minute and a half on an H100.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import OvisImagePipeline
from diffusers.pipelines.ovis_image.pipeline_ovis_image import calculate_shift, retrieve_timesteps
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from torch.nn import functional

HERE = Path(__file__).resolve().parent
GUIDANCE = 4.5
PATH_STEPS = 20
"""Steps of a path from noise to a picture, as many as the model's pictures usually take."""

TITLE = "Evening"
NOTE = "Cream letters on a navy gradient, whatever colours the prompt asks for."
INK, GROUND, SURFACE = "cream", "navy", "gradient"

COLORS = [
    "red",
    "orange",
    "yellow",
    "green",
    "teal",
    "blue",
    "navy",
    "purple",
    "pink",
    "brown",
    "black",
    "white",
    "cream",
]
SURFACES = ["background", "gradient", "striped background", "brick wall", "wooden board"]
STYLES = ["bold", "heavy", "serif", "classic", "tall", "narrow", ""]
PLACES = ["", "", " in the center", " at the top", " at the bottom"]
KINDS = ["Sale poster", "Concert poster", "Card", "Flyer", "Banner", "Poster"]
FORMS = [
    '{kind}, headline "{words}" in {style}{ink} letters on a {ground} {surface}{place}',
    'a {ground} {surface} with the text "{words}" in {style}{ink} letters{place}',
    '"{words}" in {style}{ink} letters{place} on a {ground} {surface}',
]
SIDES = [(256, 256)] * 6 + [(336, 192), (192, 336), (320, 192)]
NO_PROMPT = 0.15
"""The part of a batch that has the empty prompt."""


def headline(choose: random.Random, words: list[str], characters: str) -> str:
    """English words in one of three cases, a number, or Chinese characters."""
    kind = choose.random()
    if kind < 0.25:
        return "".join(choose.choice(characters) for _ in range(choose.randint(2, 4)))
    if kind < 0.35:
        return f"{choose.randint(10, 90)}% OFF"
    word = choose.choice(words)
    return choose.choice([str.upper, str.title, str])(word)


def prompts(choose: random.Random, words: list[str], characters: str) -> tuple[str, str]:
    """A prompt, and the same with the theme's colours and surface."""
    style = choose.choice(STYLES)
    parts = {
        "kind": choose.choice(KINDS),
        "words": headline(choose, words, characters),
        "style": f"{style} " if style else "",
        "place": choose.choice(PLACES),
    }
    ink, ground = choose.sample(COLORS, 2)
    form = choose.choice(FORMS)
    asked = form.format(**parts, ink=ink, ground=ground, surface=choose.choice(SURFACES))
    return asked, form.format(**parts, ink=INK, ground=GROUND, surface=SURFACE)


class Trainer:
    """The model, its adapter, and the paths that it learns from."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.device = torch.device(args.device)
        self.batch = args.batch
        self.pipeline = OvisImagePipeline.from_pretrained(args.model, dtype=torch.float32)
        self.pipeline.to(self.device)
        self.transformer = self.pipeline.transformer.requires_grad_(False)
        blocks = [
            name
            for name, module in self.transformer.named_modules()
            if isinstance(module, torch.nn.Linear) and "blocks." in name and "norm" not in name
        ]
        config = LoraConfig(r=args.rank, lora_alpha=args.rank, target_modules=blocks)
        self.transformer.add_adapter(config)
        self.choose = random.Random(args.seed)
        torch.manual_seed(args.seed)
        lists = HERE / "lists"
        words = (lists / "words.txt").read_text("utf-8").split()
        self.words = [word for word in words if 3 <= len(word) <= 8]
        self.characters = "".join((lists / "characters.txt").read_text("utf-8").split())[:340]

    def velocity(self, x: torch.Tensor, t: torch.Tensor, text: tuple, ids: torch.Tensor):
        """The model's prediction for latents `[B, N, 64]` at timestep `t` in 0..1000."""
        return self.transformer(
            hidden_states=x,
            timestep=t.expand(len(x)) / 1000,
            encoder_hidden_states=text[0],
            txt_ids=text[1],
            img_ids=ids,
            return_dict=False,
        )[0]

    def text(self, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings and position ids of prompts."""
        encoded = self.pipeline.encode_prompt(
            prompt=texts,
            negative_prompt=None,
            do_classifier_free_guidance=False,
            device=self.device,
        )
        return encoded[0], encoded[2]

    def path(self):
        """Follows the themed prompts from noise to pictures with the model alone, and yields a loss
        of the adapter at each step."""
        pairs = [prompts(self.choose, self.words, self.characters) for _ in range(self.batch)]
        width, height = self.choose.choice(SIDES)
        with torch.no_grad():
            themed, empty = self.text([pair[1] for pair in pairs]), self.text([""] * self.batch)
            asked = self.text([pair[0] for pair in pairs])
            x, ids = self.pipeline.prepare_latents(
                self.batch, 16, height, width, torch.float32, self.device, None
            )
        without = torch.rand(self.batch, device=self.device) < NO_PROMPT
        choice = without[:, None, None]
        asked = (torch.where(choice, empty[0], asked[0]), asked[1])
        scheduler = self.pipeline.scheduler
        shift = calculate_shift(x.shape[1], 256, 4096, 0.5, 1.15)
        sigmas = np.linspace(1.0, 1 / PATH_STEPS, PATH_STEPS)
        times, _ = retrieve_timesteps(scheduler, PATH_STEPS, self.device, sigmas=sigmas, mu=shift)
        scheduler.set_begin_index(0)
        for t in times:
            with torch.no_grad():
                self.transformer.disable_adapters()
                wanted, unguided = (self.velocity(x, t, text, ids) for text in (themed, empty))
                self.transformer.enable_adapters()
            found = self.velocity(x, t, asked, ids)
            yield functional.mse_loss(found, torch.where(choice, unguided, wanted))
            guided = unguided + GUIDANCE * (wanted - unguided)
            x = scheduler.step(guided, t, x, return_dict=False)[0]

    def train(self, args: argparse.Namespace) -> None:
        """Takes steps of AdamW with a rate that falls to zero along a cosine."""
        own = [p for p in self.transformer.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(own, lr=args.rate, weight_decay=0.0)
        begun, step, recent = time.monotonic(), 0, []
        part = 0.0
        while part < 1.0:
            for loss in self.path():
                spent = (time.monotonic() - begun) / 60
                part = max(step / args.steps, spent / args.minutes if args.minutes else 0.0)
                if part >= 1.0:
                    break
                rate = args.rate * 0.5 * (1 + math.cos(math.pi * part))
                for group in optimizer.param_groups:
                    group["lr"] = rate
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(own, 1.0)
                optimizer.step()
                recent.append(loss.item())
                step += 1
                if step % 50 == 0:
                    mean = sum(recent[-50:]) / 50
                    print(f"step {step}, loss {mean:.5f}, {spent:.2f} minutes", flush=True)

    def save(self, out: Path, rank: int) -> None:
        """Writes the adapter in bf16, with its title and what it does."""
        state = get_peft_model_state_dict(self.transformer, adapter_name="default")
        tensors = {
            f"transformer.{name}": tensor.bfloat16().cpu().contiguous()
            for name, tensor in state.items()
        }
        metadata = {
            "modelspec.title": TITLE,
            "modelspec.description": NOTE,
            "ss_network_dim": str(rank),
            "ss_network_alpha": str(rank),
        }
        save_file(tensors, out, metadata)
        print(f"{out}: {out.stat().st_size / 1e6:.2f} MB, {len(tensors)} tensors")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, metavar="OUT.safetensors")
    parser.add_argument("--model", type=Path, default=HERE.parent / "model")
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--minutes", type=float, help="stop after so long at the latest")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rank", type=int, default=4)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    trainer = Trainer(args)
    trainer.train(args)
    trainer.save(args.out, args.rank)


if __name__ == "__main__":
    main()
