"""Muon for the matrices, AdamW for everything else; averaged weights."""

import torch
from torch import nn

# Coefficients of the Newton-Schulz iteration by Keller Jordan (Muon, 2024).
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


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

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        for (rows, columns), group in self.groups.items():
            gradient = torch.stack([p.grad.reshape(rows, columns).float() for p in group])
            momentum = self.state[rows, columns]
            momentum.lerp_(gradient, 1 - self.momentum)
            update = torch.lerp(gradient, momentum, self.momentum)
            if rows > columns:
                update = orthogonalize(update.mT).mT
            else:
                update = orthogonalize(update)
            size = -learning_rate * 0.2 * max(rows, columns) ** 0.5
            updates = [u.reshape(p.shape).to(p.dtype) for u, p in zip(update, group, strict=True)]
            torch._foreach_add_(group, updates, alpha=size)

    def state_dict(self) -> dict:
        return {"x".join(map(str, shape)): value for shape, value in self.state.items()}

    def load_state_dict(self, state: dict) -> None:
        for shape, value in self.state.items():
            value.copy_(state["x".join(map(str, shape))])


class Optimizer:
    """Both, over all parameters of `modules`, with gradients clipped together."""

    def __init__(self, modules: list[nn.Module], device: torch.device, clip: float = 1.0):
        self.parameters = [p for m in modules for p in m.parameters() if p.requires_grad]
        matrices, rest = [], []
        for module in modules:
            for name, parameter in module.named_parameters():
                if not parameter.requires_grad:
                    continue
                (matrices if _is_matrix(name, parameter) else rest).append(parameter)
        self.muon = Muon(matrices)
        fused = device.type == "cuda"
        self.adam = torch.optim.AdamW(
            rest, lr=0.0, betas=(0.9, 0.98), eps=1e-10, weight_decay=0.0, fused=fused
        )
        self.clip = clip

    def step(self, learning_rate: float) -> torch.Tensor:
        """One update; returns the norm of the gradient before clipping."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        for gradient in gradients:
            gradient.nan_to_num_(0.0, 0.0, 0.0)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.clip, foreach=True)
        for group in self.adam.param_groups:
            group["lr"] = 0.5 * learning_rate
        self.muon.step(learning_rate)
        self.adam.step()
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
    outside = ("embed_tokens", "x_embedder", "proj_out.weight", "timestep_embedder")
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
