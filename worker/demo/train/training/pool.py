"""Latents of posters on the device, from which training steps draw."""

import torch
import torch.nn.functional as F

from prompts import tokenizer as tokenizers
from training.models import pack


class Pool:
    """A ring buffer on the device: latents of posters of one size, with their prompts and labels.
    New entries replace the oldest."""

    def __init__(self, capacity: int, height: int, width: int, positions: int, device):
        tokens = height * width // 256
        self.capacity, self.tokens = capacity, tokens
        self.grid = (height // 16, width // 16)
        self.latents = torch.empty(capacity, tokens, 64, dtype=torch.bfloat16, device=device)
        self.lettering = torch.empty(capacity, tokens, dtype=torch.float16, device=device)
        self.cells = torch.empty(capacity, tokens, 2, 3, dtype=torch.int16, device=device)
        self.ids = torch.empty(
            capacity, tokenizers.PREFIX_POSITIONS + positions, dtype=torch.int16, device=device
        )
        self.lengths = torch.empty(capacity, dtype=torch.int16, device=device)
        self.filled = self.next = 0
        # A copy on the device, because a recorded step cannot read a Python number.
        self.count = torch.zeros((), device=device)

    def add(self, latents: torch.Tensor, batch: dict) -> None:
        """Adds the posters of a batch, with their latents."""
        count = len(latents)
        if self.next + count > self.capacity:
            self.next = 0
        place = slice(self.next, self.next + count)
        self.latents[place] = pack(latents)
        # Share of each token's 16 x 16 pixels that letters cover, times 4, at most 1.
        share = F.avg_pool2d(batch["coverage"][:, None].float() / 255, 16)
        self.lettering[place] = (share * 4).clamp(max=1).flatten(1).half()
        self.cells[place] = batch["cells"]
        self.ids[place] = batch["ids"]
        self.lengths[place] = batch["lengths"]
        self.next += count
        self.filled = max(self.filled, self.next)
        self.count.fill_(self.filled)

    def draw(self, count: int) -> tuple[torch.Tensor, ...]:
        """Random entries: latents, letter coverage, cells, ids and lengths."""
        place = torch.rand(count, device=self.ids.device, dtype=torch.float64)
        index = (place * self.count).long()
        return (
            self.latents[index].float(),
            self.lettering[index].float(),
            self.cells[index].long(),
            self.ids[index].long(),
            self.lengths[index].long(),
        )
