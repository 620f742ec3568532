"""Stochastic sampling of flow-matching models, whose steps have a density.

Conventions: x = (1 - sigma) x0 + sigma e with noise e, the model predicts v = e - x0, and sigma
falls from 1 to 0. A step from `sigma` to `following` draws from a Gaussian around a mean:

- `sde`, Flow-GRPO (Liu et al., arXiv 2505.05470, eq. 9): the Euler-Maruyama step of the SDE with
  the marginals of the ODE, g^2 = level^2 sigma / (1 - sigma). At sigma = 1, where g is infinite,
  the denominator uses the schedule's next level, as in the authors' code (yifan123/flow_grpo).
  It keeps the marginals in the limit of many steps.
- `cps`, coefficients-preserving sampling (Wang and Yu, arXiv 2509.05952): predict x0 and e, then
  mix (1 - following) x0 + sqrt(following^2 - d^2) e + d z with d = following sin(level pi / 2), so
  that the squares of the noise coefficients always sum to following^2. No noise is left in the
  result whatever the number of steps. For targets with one answer (Dirac) it keeps the marginals
  exactly. For a Gaussian target every short step loses the variance c^2 (1 - sigma^2 / V), where
  c = sigma - sqrt(sigma^2 - d^2) and V is the variance of x; latents of a poster whose prompt
  says everything are close to the first case.

The last step goes to sigma 0 and is the ODE's, without noise, in both.
"""

import math

import torch


def sde(
    latents: torch.Tensor,
    velocity: torch.Tensor,
    sigma: torch.Tensor,
    following: torch.Tensor,
    level: float,
    top: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation of the Flow-GRPO step. `sigma` and `following` broadcast against the
    latents; `top` is the schedule's second level, which replaces a sigma of 1."""
    square = level**2 * sigma / (1 - torch.where(sigma == 1, top, sigma))
    square = torch.where(following > 0, square, 0.0)
    step = following - sigma
    drift = velocity + square / (2 * sigma) * (latents + (1 - sigma) * velocity)
    return latents + step * drift, (square * -step).sqrt()


def cps(
    latents: torch.Tensor,
    velocity: torch.Tensor,
    sigma: torch.Tensor,
    following: torch.Tensor,
    level: float,
    top: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation of the coefficients-preserving step; `top` is not used."""
    clean = latents - sigma * velocity
    noise = latents + (1 - sigma) * velocity
    angle = level * math.pi / 2
    mean = (1 - following) * clean + following * math.cos(angle) * noise
    return mean, following * math.sin(angle)


KINDS = {"sde": sde, "cps": cps}
"""The samplers by their names in the configuration."""


def log_density(drawn: torch.Tensor, mean: torch.Tensor, deviation: torch.Tensor) -> torch.Tensor:
    """The log-density of each step [B], averaged over a picture's dimensions as in Flow-GRPO.
    Terms that do not depend on the mean are left out: they cancel in a ratio."""
    square = (drawn - mean).square() / (2 * deviation.square())
    return -square.flatten(1).mean(1)
