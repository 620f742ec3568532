"""The first stage: the autoencoder."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import nn

import data
from graphs import Replayed
from models import SCALE, SHIFT
from optimizer import Optimizer
from run import Clock, Log, rate_at, save, wait

LARGEST_RATIO = 30.0
"""Energy over its mean that no place of the decoder should exceed. Small lettering on an
even ground comes near it."""


def train(
    vae: AutoencoderKL,
    config: dict,
    assets: Path,
    clock: Clock,
    state: Path,
    log: Log,
    graphs: bool = True,
) -> None:
    """Trains the autoencoder until the clock runs out and writes `state/vae.pt`.

    Two parts: both halves on crops with lettering; then the latent space is rescaled
    and fixed, and the decoder alone goes on with whole pictures and noisy latents.
    """
    stage = config["vae_stage"]
    vae.to(memory_format=torch.channels_last)
    crops = posters_for(config, assets, stage["crop_batch"], config["seed"], stage["crop"])
    _part(vae, True, crops, config, clock, log, graphs, until=stage["crop_share"])

    whole = posters_for(config, assets, stage["whole_batch"], config["seed"] + 1, None)
    whole = data.batches(whole, config["posters"]["workers"], next(vae.parameters()).device)
    normalize(vae, whole)
    vae.encoder.requires_grad_(False)
    _part(vae, False, whole, config, clock, log, graphs, start=stage["crop_share"])
    vae.requires_grad_(False)
    log(stage="vae", **check(vae, next(whole)))
    save(state / "vae.pt", {k: v.cpu() for k, v in vae.state_dict().items()})


def posters_for(
    config: dict, assets: Path, batch: int, seed: int, crop: int | None
) -> data.Posters:
    return data.Posters(
        config["posters"], assets, batch, config["joint_stage"]["text_tokens"],
        [(256, 256, 1.0)], seed, crop,
    )  # fmt: skip


def run(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The module on `x`: on a GPU all in bf16, the norms as well, which autocast would
    run in float32; the weights themselves stay float32."""
    if x.device.type != "cuda":
        return module(x)
    weights = {name: p.bfloat16() for name, p in module.named_parameters()}
    return torch.func.functional_call(module, weights, (x.bfloat16(),)).float()


@contextmanager
def watched(decoder: nn.Module) -> Iterator[list[torch.Tensor]]:
    """Collects what the decoder's middle and its levels give on."""
    outputs: list[torch.Tensor] = []
    hooks = [
        module.register_forward_hook(lambda _module, _input, output: outputs.append(output))
        for module in (decoder.mid_block, *decoder.up_blocks)
    ]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def droplets(activations: torch.Tensor) -> torch.Tensor:
    """How much of the energy of [B, C, H, W] sits in places far above the mean, 0 to 1.

    Left alone, a decoder puts a spike into some corner, with which it steers the group
    norms, and a coloured spot stays in the picture (seen in StyleGAN by Karras et al.
    2020, who call it a droplet).
    """
    energy = activations.float().square().mean(1)
    ratio = energy / energy.mean((1, 2), keepdim=True).clamp(min=1e-6)
    return (ratio - LARGEST_RATIO).clamp(min=0).mean()


def worst(error: torch.Tensor) -> torch.Tensor:
    """The error [B, 1, H, W] of each picture's worst 8 x 8 pixels, which a mean over
    the picture hides."""
    return F.avg_pool2d(error, 8).amax((1, 2, 3)).mean()


class Trainee:
    """The autoencoder in one of the two parts of its training."""

    def __init__(self, vae: AutoencoderKL, both: bool, stage: dict, batch: dict, graphs: bool):
        self.vae, self.both, self.stage = vae, both, stage
        device = batch["pictures"].device
        self.optimizer = Optimizer([vae.encoder, vae.decoder] if both else [vae.decoder], device)
        self.pictures = batch["pictures"].clone()
        self.coverage = batch["coverage"].clone()
        self.replayed = Replayed(self._step, graphs and device.type == "cuda")

    def step(self, batch: dict) -> torch.Tensor:
        """One step on a batch: loss, error on the lettering, norm of the gradient."""
        self.pictures.copy_(batch["pictures"])
        self.coverage.copy_(batch["coverage"])
        return self.replayed()

    def _step(self) -> torch.Tensor:
        loss, error = self._loss()
        loss.backward()
        return torch.stack([loss.detach(), error, self.optimizer.step()])

    def _loss(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss, and the mean error on and around the lettering."""
        stage, pictures = self.stage, data.to_unit(self.pictures)
        with torch.set_grad_enabled(self.both):
            mean, logvar = run(self.vae.encoder, pictures).chunk(2, dim=1)
        if self.both:
            logvar = logvar.clamp(-20, 4)
            noise = (0.5 * logvar).exp().clamp(min=0.1) * torch.randn_like(mean)
            latents = mean + noise
            kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(1).mean()
        else:
            # In this part latents have unit size: (z - shift) * scale.
            strength = stage["latent_noise"] * torch.rand(len(mean), 1, 1, 1, device=mean.device)
            latents = mean + strength / SCALE * torch.randn_like(mean)
            kl = 0.0
        with watched(self.vae.decoder) as activations:
            output = run(self.vae.decoder, latents)
        error = (output - pictures).abs().mean(1, keepdim=True)
        near = F.max_pool2d(self.coverage[:, None].float() / 255, 9, stride=1, padding=4)
        weights = 1 + stage["text_weight"] * near
        difference = output - pictures
        edges = difference.diff(dim=2).abs().mean() + difference.diff(dim=3).abs().mean()
        loss = (error * weights).sum() / weights.sum() + 0.5 * edges + stage["kl_weight"] * kl
        loss = loss + stage["worst_weight"] * worst(error)
        loss = loss + stage["droplet_weight"] * sum(map(droplets, activations)) / len(activations)
        return loss, ((error * near).sum() / near.sum().clamp(min=1)).detach()


def _part(vae, both, source, config, clock, log, graphs, start=0.0, until=1.0) -> None:
    """One part of the stage, from `start` to `until` of its time."""
    stage = config["vae_stage"]
    if isinstance(source, data.Posters):
        device = next(vae.parameters()).device
        source = data.batches(source, config["posters"]["workers"], device)
    trainee = Trainee(vae, both, stage, next(source), graphs)
    recent: deque[torch.Tensor] = deque(maxlen=50)
    # Each part has its own decay, the second from a lower peak.
    peak = stage["learning_rate"] * (1.0 if both else 0.5)
    step, images, since = 0, 0, clock.seconds
    while clock.progress < until and not clock.over:
        batch = next(source)
        progress = max(0.0, (clock.progress - start) / (until - start))
        trainee.optimizer.set_rate(rate_at(step, progress, peak, 50, 0.3), step)
        recent.append(trainee.step(batch))
        step, images = step + 1, images + len(batch["pictures"])
        wait(step)
        if step % 200 == 0 or step in (1, 10, 50):
            loss, error, norm = torch.stack(list(recent)).mean(0).tolist()
            now = clock.seconds
            log(
                stage="vae", part="both" if both else "decoder", step=step,
                seconds=round(now, 1), loss=loss, text_error=error, gradient=norm,
                images_per_second=round(images / max(now - since, 1e-3)),
            )  # fmt: skip
            images, since = 0, now


@torch.no_grad()
def normalize(vae: AutoencoderKL, batches) -> None:
    """Rescales the latent space so that (z - SHIFT) * SCALE has mean 0 and deviation 1.

    The affine goes into the encoder's last and the decoder's first convolution. Only
    at the picture's edge, where that pads with zeros, is it not exact; the decoder
    trains on, so that is made good.
    """
    latents = []
    for _ in range(12):
        moments = run(vae.encoder, data.to_unit(next(batches)["pictures"]))
        latents.append(moments.chunk(2, dim=1)[0])
    values = torch.cat(latents).transpose(0, 1).flatten(1)
    factor = 1 / SCALE / values.std(1).clamp(min=1e-4)
    offset = SHIFT - factor * values.mean(1)
    last, first = vae.encoder.conv_out, vae.decoder.conv_in
    channels = len(factor)
    last.weight[:channels] *= factor[:, None, None, None]
    last.bias[:channels] = last.bias[:channels] * factor + offset
    last.bias[channels:] += 2 * factor.log()
    first.weight /= factor[None, :, None, None]
    first.bias -= (first.weight * offset[None, :, None, None]).sum((1, 2, 3))


@torch.no_grad()
def encode(vae: AutoencoderKL, pictures: torch.Tensor) -> torch.Tensor:
    """Pictures to what the transformer sees: bf16, mean 0 and deviation 1."""
    mean = run(vae.encoder, data.to_unit(pictures)).chunk(2, dim=1)[0]
    return ((mean - SHIFT) * SCALE).bfloat16()


@torch.no_grad()
def check(vae: AutoencoderKL, batch: dict) -> dict[str, float]:
    """Size of the latents, and the error of the whole way."""
    latents = encode(vae, batch["pictures"]).float()
    error = run(vae.decoder, latents / SCALE + SHIFT) - data.to_unit(batch["pictures"])
    error = error.abs().mean(1, keepdim=True)
    near = F.max_pool2d(batch["coverage"][:, None].float() / 255, 9, stride=1, padding=4)
    return {
        "latent_mean": latents.mean().item(),
        "latent_deviation": latents.std().item(),
        "error": error.mean().item(),
        "worst_error": worst(error).item(),
        "text_error": ((error * near).sum() / near.sum().clamp(min=1)).item(),
    }
