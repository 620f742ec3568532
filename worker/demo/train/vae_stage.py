"""The first stage: the autoencoder."""

from collections import deque
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

import data
from models import SCALE, SHIFT
from optimizer import Optimizer
from run import Clock, Log, rate_at, save


def train(
    vae: AutoencoderKL, config: dict, assets: Path, clock: Clock, state: Path, log: Log
) -> None:
    """Trains the autoencoder until the clock runs out and writes `state/vae.pt`.

    Two parts: both halves on crops with lettering; then the latent space is rescaled
    and fixed, and the decoder alone goes on with whole pictures and noisy latents.
    """
    device = next(vae.parameters()).device
    stage = config["vae_stage"]
    vae.to(memory_format=torch.channels_last)
    compile_halves(vae)
    crops = posters_for(config, assets, stage["crop_batch"], config["seed"], stage["crop"])
    _part(vae, [vae.encoder, vae.decoder], crops, config, clock, log, until=stage["crop_share"])

    whole = posters_for(config, assets, stage["whole_batch"], config["seed"] + 1, None)
    vae.encoder.requires_grad_(False)
    normalize(vae, whole_batches := data.batches(whole, config["posters"]["workers"], device))
    _part(vae, [vae.decoder], whole_batches, config, clock, log, start=stage["crop_share"])
    vae.requires_grad_(False)
    with torch.compiler.set_stance("force_eager"):
        log(stage="vae", **check(vae, next(whole_batches)))
    save(state / "vae.pt", {k: v.cpu() for k, v in vae.state_dict().items()})


def posters_for(
    config: dict, assets: Path, batch: int, seed: int, crop: int | None
) -> data.Posters:
    return data.Posters(
        config["posters"], assets, batch, config["joint_stage"]["text_tokens"],
        [(256, 256, 1.0)], seed, crop,
    )  # fmt: skip


def compile_halves(vae: AutoencoderKL) -> None:
    """On a GPU only: what a CPU run of a minute would not get back."""
    if next(vae.parameters()).device.type == "cuda":
        vae.encoder.compile(dynamic=False)
        vae.decoder.compile(dynamic=False)


def _part(vae, modules, source, config, clock, log, start=0.0, until=1.0) -> None:
    """One part of the stage, from `start` to `until` of its time."""
    device = next(vae.parameters()).device
    stage = config["vae_stage"]
    if isinstance(source, data.Posters):
        source = data.batches(source, config["posters"]["workers"], device)
    optimizer = Optimizer(modules, device)
    recent: deque[torch.Tensor] = deque(maxlen=50)
    step, images, since = 0, 0, clock.seconds
    frozen = len(modules) == 1
    while clock.progress < until and not clock.over:
        batch = next(source)
        loss, text_error = step_loss(vae, batch, stage, frozen)
        loss.backward()
        # Each part has its own decay, the second from a lower peak.
        progress = (clock.progress - start) / (until - start)
        peak = stage["learning_rate"] * (0.5 if frozen else 1.0)
        norm = optimizer.step(rate_at(step, progress, peak, 50, 0.3))
        recent.append(torch.stack([loss.detach(), text_error, norm]))
        step, images = step + 1, images + len(batch["pictures"])
        if step % 100 == 0 or step in (1, 10):
            loss_value, error, size = torch.stack(list(recent)).mean(0).tolist()
            now = clock.seconds
            log(
                stage="vae", part="decoder" if frozen else "both", step=step,
                seconds=round(now, 1), loss=loss_value, text_error=error, gradient=size,
                images_per_second=round(images / (now - since)),
            )  # fmt: skip
            images, since = 0, now


def step_loss(vae, batch: dict, stage: dict, frozen: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss on a batch, and the mean error on and around the lettering."""
    pictures = data.to_unit(batch["pictures"])
    device_type = pictures.device.type
    with torch.autocast(device_type, torch.bfloat16, enabled=device_type == "cuda"):
        with torch.set_grad_enabled(not frozen):
            moments = vae.encoder(pictures)
        mean, logvar = moments.float().chunk(2, dim=1)
        logvar = logvar.clamp(-20, 4)
        if frozen:
            # In this part latents have unit size: (z - shift) * scale.
            strength = stage["latent_noise"] * torch.rand(len(mean), 1, 1, 1, device=mean.device)
            latents = mean + strength / SCALE * torch.randn_like(mean)
            kl = mean.new_zeros(())
        else:
            noise = (0.5 * logvar).exp().clamp(min=0.1) * torch.randn_like(mean)
            latents = mean + noise
            kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(1).mean()
        output = vae.decoder(latents)
    error = (output.float() - pictures).abs().mean(1, keepdim=True)
    lettering = batch["coverage"][:, None].float() / 255
    near = F.max_pool2d(lettering, 9, stride=1, padding=4)
    weights = 1 + stage["text_weight"] * near
    edges = 0.0
    for axis in (2, 3):
        edges = edges + (output.float().diff(dim=axis) - pictures.diff(dim=axis)).abs().mean()
    loss = (error * weights).sum() / weights.sum() + 0.5 * edges + stage["kl_weight"] * kl
    return loss, ((error * near).sum() / near.sum().clamp(min=1)).detach()


@torch.no_grad()
def normalize(vae: AutoencoderKL, batches) -> None:
    """Rescales the latent space so that (z - SHIFT) * SCALE has mean 0 and deviation 1.

    The affine goes into the encoder's last and the decoder's first convolution. Only
    at the picture's edge, where that pads with zeros, is it not exact; the decoder
    trains on, so that is made good.
    """
    device_type = next(vae.parameters()).device.type
    latents = []
    for _ in range(8):
        with torch.autocast(device_type, torch.bfloat16, enabled=device_type == "cuda"):
            moments = vae.encoder(data.to_unit(next(batches)["pictures"]))
        latents.append(moments.float().chunk(2, dim=1)[0])
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
    device_type = pictures.device.type
    with torch.autocast(device_type, torch.bfloat16, enabled=device_type == "cuda"):
        moments = vae.encoder(data.to_unit(pictures))
    mean = moments.float().chunk(2, dim=1)[0]
    return ((mean - SHIFT) * SCALE).bfloat16()


@torch.no_grad()
def check(vae: AutoencoderKL, batch: dict) -> dict[str, float]:
    """Size of the latents, and the error of the whole way."""
    latents = encode(vae, batch["pictures"]).float()
    pictures = data.to_unit(batch["pictures"])
    device_type = pictures.device.type
    with torch.autocast(device_type, torch.bfloat16, enabled=device_type == "cuda"):
        output = vae.decoder(latents / SCALE + SHIFT).float()
    error = (output - pictures).abs().mean(1, keepdim=True)
    near = F.max_pool2d(batch["coverage"][:, None].float() / 255, 9, stride=1, padding=4)
    return {
        "latent_mean": latents.mean().item(),
        "latent_deviation": latents.std().item(),
        "error": error.mean().item(),
        "text_error": ((error * near).sum() / near.sum().clamp(min=1)).item(),
    }
