"""A second task for the training: halfway through the transformer, image tokens must
say which letter they are a part of, and which part.

The loss on pictures alone finds out late that the third quoted letter belongs into the
third cell: at high noise a wrong letter is hardly a worse picture than a grey mean of all
of them. Naming the letter is an error of full size from the first step on. Only the
training has this head, the checkpoint does not (compare REPA, Yu et al. 2024, which aligns
such a middle layer with a pretrained vision encoder).
"""

import torch
import torch.nn.functional as F
from torch import nn

import typesetting

ASKED = 24
"""Tokens asked of each picture: those with letters first."""

UNKNOWN = -100
"""The label of what is not asked at all."""


class Reader(nn.Module):
    """Reads the two pairs of 8 pixels, left and right, that a token of 16 is wide."""

    def __init__(self, width: int):
        super().__init__()
        self.letters = 1 + len(typesetting.LETTERS)  # and none
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.letter = nn.Linear(width, 2 * self.letters)
        self.column = nn.Linear(width, 2 * typesetting.COLUMNS)

    def loss(self, hidden: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of letter and column, from image tokens [B, N, D] and the
        labels that `Painter.cells` gives, [B, N, 2, 2]."""
        lettered = (cells[..., 0] > 0).any(-1)
        chosen = (lettered + torch.rand_like(lettered, dtype=torch.float32)).topk(ASKED).indices
        hidden = hidden.gather(1, chosen[..., None].expand(-1, -1, hidden.shape[-1]))
        cells = cells.gather(1, chosen[..., None, None].expand(-1, -1, 2, 2))
        hidden = self.norm(hidden.float())
        device_type = hidden.device.type
        with torch.autocast(device_type, torch.bfloat16, enabled=device_type == "cuda"):
            letter, column = self.letter(hidden), self.column(hidden)
        answers = (
            (letter.view(-1, self.letters), cells[..., 0]),
            (column.view(-1, typesetting.COLUMNS), cells[..., 1]),
        )
        return sum(
            F.cross_entropy(scores.float(), labels.flatten(), ignore_index=UNKNOWN)
            for scores, labels in answers
        )
