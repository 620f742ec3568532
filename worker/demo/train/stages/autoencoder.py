"""The autoencoder, which is trained before everything else."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import nn

from training import data
from training.graphs import Replayed
from training.models import SCALE, SHIFT
from training.optimizer import Optimizer
from training.run import Clock, Log, rate_at, save, wait

LARGEST_RATIO = 30.0
"""Largest ratio of the energy at one position of the decoder to its mean that is not penalized.
Small letters on an even background come close to it."""


def train(
    vae: AutoencoderKL,
    config: dict,
    assets: Path,
    clock: Clock,
    state: Path,
    log: Log,
    graphs: bool = True,
) -> None:
    """Trains the autoencoder until the clock runs out and writes `state/autoencoder.pt`.

    In the first part, encoder and decoder train on crops with letters. Then the latent space is
    rescaled and frozen, and the decoder alone trains on whole pictures and noisy latents.
    """
    stage = config["autoencoder"]
    vae.to(memory_format=torch.channels_last)
    crops = posters_for(config, assets, stage["crop_batch"], config["seed"], stage["crop"])
    _part(vae, True, crops, config, clock, log, graphs, until=stage["crop_share"])

    whole = posters_for(config, assets, stage["whole_batch"], config["seed"] + 1, None)
    whole = data.batches(whole, config["posters"]["workers"], next(vae.parameters()).device)
    normalize(vae, whole)
    vae.encoder.requires_grad_(False)
    _part(vae, False, whole, config, clock, log, graphs, start=stage["crop_share"])
    vae.requires_grad_(False)
    log(stage="autoencoder", **check(vae, next(whole)))
    save(state / "autoencoder.pt", {k: v.cpu() for k, v in vae.state_dict().items()})


def posters_for(
    config: dict, assets: Path, batch: int, seed: int, crop: int | None
) -> data.Posters:
    """Batches of 256 x 256 posters, or of crops of them."""
    return data.Posters(
        config["posters"], assets, batch, config["posters"]["text_tokens"],
        [(256, 256, 1.0)], seed, crop,
    )  # fmt: skip


def run(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Applies the module to `x`. On a GPU all of it runs in bf16, including the norms, which
    autocast would run in float32; the stored weights stay in float32."""
    if x.device.type != "cuda":
        return module(x)
    weights = {name: p.bfloat16() for name, p in module.named_parameters()}
    return torch.func.functional_call(module, weights, (x.bfloat16(),)).float()


@contextmanager
def watched(decoder: nn.Module) -> Iterator[list[torch.Tensor]]:
    """Collects the outputs of the decoder's middle and up blocks while the context is open."""
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
    """A penalty on positions of [B, C, H, W] whose energy exceeds `LARGEST_RATIO` times the mean.

    Without it, the decoder learns to put a spike of large activations at one position, with which
    it controls the group norms, and a coloured spot remains in the picture. Karras et al. 2020
    describe the same in StyleGAN and call it a droplet.
    """
    energy = activations.float().square().mean(1)
    ratio = energy / energy.mean((1, 2), keepdim=True).clamp(min=1e-6)
    return (ratio - LARGEST_RATIO).clamp(min=0).mean()


def worst(error: torch.Tensor) -> torch.Tensor:
    """Mean error of the worst 8 x 8 pixels of each picture, from errors [B, 1, H, W]. The mean over
    whole pictures hides it."""
    return F.avg_pool2d(error, 8).amax((1, 2, 3)).mean()


class Trainee:
    """The autoencoder in one part of its training: encoder and decoder, or the decoder alone."""

    def __init__(self, vae: AutoencoderKL, both: bool, stage: dict, batch: dict, graphs: bool):
        self.vae, self.both, self.stage = vae, both, stage
        device = batch["pictures"].device
        modules = [vae.encoder, vae.decoder] if both else [vae.decoder]
        self.optimizer = Optimizer(modules, device, decay=stage["weight_decay"])
        self.pictures = batch["pictures"].clone()
        self.coverage = batch["coverage"].clone()
        self.replayed = Replayed(self._step, graphs and device.type == "cuda")

    def step(self, batch: dict) -> torch.Tensor:
        """Trains on a batch. Returns loss, error on the letters and norm of the gradient."""
        self.pictures.copy_(batch["pictures"])
        self.coverage.copy_(batch["coverage"])
        return self.replayed()

    def _step(self) -> torch.Tensor:
        loss, error = self._loss()
        loss.backward()
        return torch.stack([loss.detach(), error, self.optimizer.step()])

    def _loss(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss, and the mean error on and near letters."""
        stage, pictures = self.stage, data.to_unit(self.pictures)
        with torch.set_grad_enabled(self.both):
            mean, logvar = run(self.vae.encoder, pictures).chunk(2, dim=1)
        if self.both:
            logvar = logvar.clamp(-20, 4)
            noise = (0.5 * logvar).exp().clamp(min=0.1) * torch.randn_like(mean)
            latents = mean + noise
            kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(1).mean()
        else:
            # The latent space is normalized: (z - SHIFT) * SCALE has deviation 1.
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
    """Trains one part of the stage, from `start` to `until` of the stage's time."""
    stage = config["autoencoder"]
    if isinstance(source, data.Posters):
        device = next(vae.parameters()).device
        source = data.batches(source, config["posters"]["workers"], device)
    trainee = Trainee(vae, both, stage, next(source), graphs)
    recent: deque[torch.Tensor] = deque(maxlen=50)
    # Each part has a learning rate schedule of its own; the second has half the peak.
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
                stage="autoencoder", part="both" if both else "decoder", step=step,
                seconds=round(now, 1), loss=loss, text_error=error, gradient=norm,
                images_per_second=round(images / max(now - since, 1e-3)),
            )  # fmt: skip
            images, since = 0, now


@torch.no_grad()
def normalize(vae: AutoencoderKL, batches) -> None:
    """Rescales the latent space so that (z - SHIFT) * SCALE has mean 0 and deviation 1.

    The affine map is folded into the encoder's last and the decoder's first convolution. It is
    inexact only at the picture's edge, where the decoder's convolution pads with zeros; the
    decoder adapts as it trains on.
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
    """Encodes pictures to the transformer's latents: bf16, with mean 0 and deviation 1."""
    mean = run(vae.encoder, data.to_unit(pictures)).chunk(2, dim=1)[0]
    return ((mean - SHIFT) * SCALE).bfloat16()


@torch.no_grad()
def check(vae: AutoencoderKL, batch: dict) -> dict[str, float]:
    """Mean and deviation of the latents, and the reconstruction error."""
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
