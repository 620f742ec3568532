"""Muon for matrices, Adam for all other parameters, and averaged weights.

A step can be recorded as a CUDA graph: nothing here waits for the device, and values that change
between steps, such as the learning rates, are tensors.
"""

import torch
from torch import nn

# Coefficients of the Newton-Schulz iteration: Keller Jordan, Muon, 2024.
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)

ADAM_SHARE = 0.5
"""Ratio of Adam's learning rate to Muon's."""


@torch.no_grad()
def orthogonalize(matrices: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Moves all singular values of each matrix in [N, R, C], R <= C, close to 1."""
    a, b, c = NEWTON_SCHULZ
    x = matrices.bfloat16()
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


class Muon:
    """Momentum with orthogonalized updates. All matrices of one shape are processed as a batch.

    A convolution's weight is treated as a matrix [out, rest]. Updates are scaled to the typical
    size of Adam's (the rule of Moonlight, 2025), so that one learning rate fits both. `decay` is
    the decoupled weight decay in units of the learning rate; without it, the weights of a long
    run grow until bf16 is too coarse for them.
    """

    def __init__(self, parameters: list[nn.Parameter], momentum: float = 0.95, decay: float = 0.0):
        self.momentum, self.decay = momentum, decay
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
            torch._foreach_mul_(group, 1 - self.decay * rate)
            torch._foreach_add_(group, updates)

    def state_dict(self) -> dict:
        return {"x".join(map(str, shape)): value for shape, value in self.state.items()}

    def load_state_dict(self, state: dict) -> None:
        for shape, value in self.state.items():
            value.copy_(state["x".join(map(str, shape))])


class Adam:
    """Adam without bias correction. The caller multiplies the learning rate by `correction`
    instead, so that a recorded step does not depend on the step's number."""

    def __init__(self, parameters: list[nn.Parameter], betas: tuple[float, float] = (0.9, 0.98)):
        self.parameters, self.betas = parameters, betas
        self.first = [torch.zeros_like(p) for p in parameters]
        self.second = [torch.zeros_like(p) for p in parameters]

    def correction(self, step: int) -> float:
        """The factor that bias correction puts on the learning rate at a step, from 0."""
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
    """Muon and Adam over all parameters of `modules`. Gradients are clipped by their joint norm,
    and `decay` is the weight decay of matrices."""

    def __init__(
        self, modules: list[nn.Module], device: torch.device, clip: float = 1.0, decay: float = 0.0
    ):
        named = [pair for m in modules for pair in m.named_parameters() if pair[1].requires_grad]
        self.parameters = [parameter for _, parameter in named]
        self.muon = Muon([p for name, p in named if _is_matrix(name, p)], decay=decay)
        self.adam = Adam([p for name, p in named if not _is_matrix(name, p)])
        self.muon_rate = torch.zeros((), device=device)
        self.adam_rate = torch.zeros((), device=device)
        self.clip = clip

    def set_rate(self, rate: float, step: int) -> None:
        """Sets the learning rate of the next step. Not part of a recorded step."""
        self.muon_rate.fill_(rate)
        self.adam_rate.fill_(ADAM_SHARE * rate * self.adam.correction(step))

    @torch.no_grad()
    def step(self) -> torch.Tensor:
        """Updates the parameters and returns the norm of the gradient before clipping."""
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
    """Whether Muon trains the parameter: a matrix that is not an embedding, an input or output
    layer, or a modulation."""
    outside = ("embed_tokens", "x_embedder", "proj_out.weight", "timestep_embedder", "heads")
    if parameter.ndim < 2 or name.endswith((".linear.weight", "conv_in.weight", "conv_out.weight")):
        return False
    return not name.startswith(outside)


class Average:
    """An exponential moving average of the weights of modules."""

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
