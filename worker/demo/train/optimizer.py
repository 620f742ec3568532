"""Muon for the matrices, Adam for everything else; averaged weights.

Nothing here waits for the device or depends on a number that Python holds, so that a
step can be recorded and replayed: the learning rates are tensors.
"""

import torch
from torch import nn

# Coefficients of the Newton-Schulz iteration by Keller Jordan (Muon, 2024).
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)

ADAM_SHARE = 0.5
"""Adam's learning rate over Muon's."""


@torch.no_grad()
def orthogonalize(matrices: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Brings all singular values of each matrix in [N, R, C], R <= C, near 1."""
    a, b, c = NEWTON_SCHULZ
    x = matrices.bfloat16()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


class Muon:
    """Momentum whose updates are orthogonalized, all matrices of a shape at once.

    Convolutions count as matrices of [out, rest]. The update has the size that Adam's
    usually has (Moonlight's rule), so both share one learning rate.
    """

    def __init__(self, parameters: list[nn.Parameter], momentum: float = 0.95):
        self.momentum = momentum
        self.groups: dict[tuple[int, int], list[nn.Parameter]] = {}
        for parameter in parameters:
            rows, columns = parameter.shape[0], parameter[0].numel()
            self.groups.setdefault((rows, columns), []).append(parameter)
        self.state = {
            shape: torch.zeros(len(group), *shape, device=group[0].device)
            for shape, group in self.groups.items()
        }

    def step(self, rate: torch.Tensor) -> None:
        for (rows, columns), group in self.groups.items():
            gradient = torch.stack([p.grad.reshape(rows, columns) for p in group])
            momentum = self.state[rows, columns]
            momentum.lerp_(gradient, 1 - self.momentum)
            update = torch.lerp(gradient, momentum, self.momentum)
            tall = rows > columns
            update = orthogonalize(update.mT).mT if tall else orthogonalize(update)
            update = update.float() * (-0.2 * max(rows, columns) ** 0.5 * rate)
            updates = [u.reshape(p.shape) for u, p in zip(update, group, strict=True)]
            torch._foreach_add_(group, updates)

    def state_dict(self) -> dict:
        return {"x".join(map(str, shape)): value for shape, value in self.state.items()}

    def load_state_dict(self, state: dict) -> None:
        for shape, value in self.state.items():
            value.copy_(state["x".join(map(str, shape))])


class Adam:
    """Adam without its corrections for the first steps, which the caller puts into the
    learning rate."""

    def __init__(self, parameters: list[nn.Parameter], betas: tuple[float, float] = (0.9, 0.98)):
        self.parameters, self.betas = parameters, betas
        self.first = [torch.zeros_like(p) for p in parameters]
        self.second = [torch.zeros_like(p) for p in parameters]

    def correction(self, step: int) -> float:
        first, second = (1 - beta ** (step + 1) for beta in self.betas)
        return second**0.5 / first

    def step(self, rate: torch.Tensor) -> None:
        gradients = [p.grad for p in self.parameters]
        torch._foreach_lerp_(self.first, gradients, 1 - self.betas[0])
        torch._foreach_mul_(self.second, self.betas[1])
        torch._foreach_addcmul_(self.second, gradients, gradients, 1 - self.betas[1])
        size = torch._foreach_sqrt(self.second)
        torch._foreach_add_(size, 1e-9)
        update = torch._foreach_div(self.first, size)
        torch._foreach_mul_(update, -rate)
        torch._foreach_add_(self.parameters, update)

    def state_dict(self) -> dict:
        return {"first": self.first, "second": self.second}

    def load_state_dict(self, state: dict) -> None:
        torch._foreach_copy_(self.first, state["first"])
        torch._foreach_copy_(self.second, state["second"])


class Optimizer:
    """Both, over all parameters of `modules`, with gradients clipped together."""

    def __init__(self, modules: list[nn.Module], device: torch.device, clip: float = 1.0):
        named = [pair for m in modules for pair in m.named_parameters() if pair[1].requires_grad]
        self.parameters = [parameter for _, parameter in named]
        self.muon = Muon([p for name, p in named if _is_matrix(name, p)])
        self.adam = Adam([p for name, p in named if not _is_matrix(name, p)])
        self.muon_rate = torch.zeros((), device=device)
        self.adam_rate = torch.zeros((), device=device)
        self.clip = clip

    def set_rate(self, rate: float, step: int) -> None:
        """For the next step. Not part of what is recorded."""
        self.muon_rate.fill_(rate)
        self.adam_rate.fill_(ADAM_SHARE * rate * self.adam.correction(step))

    @torch.no_grad()
    def step(self) -> torch.Tensor:
        """One update; returns the norm of the gradient before clipping."""
        gradients = [p.grad for p in self.parameters]
        for gradient in gradients:
            gradient.nan_to_num_(0.0, 0.0, 0.0)
        norm = torch.stack(torch._foreach_norm(gradients)).norm()
        torch._foreach_mul_(gradients, (self.clip / (norm + 1e-6)).clamp(max=1.0))
        self.muon.step(self.muon_rate)
        self.adam.step(self.adam_rate)
        for parameter in self.parameters:
            parameter.grad = None
        return norm

    def state_dict(self) -> dict:
        return {"muon": self.muon.state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        self.muon.load_state_dict(state["muon"])
        self.adam.load_state_dict(state["adam"])


def _is_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Whether Muon trains it: not embeddings, nor what reads the input, writes the
    output or modulates."""
    outside = (
        "embed_tokens", "x_embedder", "proj_out.weight", "timestep_embedder", "letter", "column"
    )  # fmt: skip
    if parameter.ndim < 2 or name.endswith((".linear.weight", "conv_in.weight", "conv_out.weight")):
        return False
    return not name.startswith(outside)


class Average:
    """An exponential moving average of modules' weights."""

    def __init__(self, modules: list[nn.Module]):
        self.source = [p for m in modules for p in m.parameters()]
        self.values = [p.detach().clone() for p in self.source]

    @torch.no_grad()
    def update(self, decay: float) -> None:
        torch._foreach_lerp_(self.values, self.source, 1 - decay)

    @torch.no_grad()
    def copy_to(self, modules: list[nn.Module]) -> None:
        targets = [p for m in modules for p in m.parameters()]
        torch._foreach_copy_(targets, self.values)
