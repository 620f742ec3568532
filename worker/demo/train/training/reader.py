"""An auxiliary training task: from image tokens in the middle of the transformer, predict which
letter each belongs to, and which column of the letter's cell.

The denoising loss alone is slow to teach that the third quoted letter belongs in the third cell:
at high noise, a wrong letter costs hardly more than a grey mean of all letters. Classifying the
letter gives a strong gradient from the first step on. The head exists only during training; the
checkpoint does not contain it. Compare REPA (Yu et al. 2024), which aligns a middle layer with a
pretrained vision encoder.
"""

import torch
import torch.nn.functional as F
from torch import nn

import typesetting

ASKED = 24
"""Number of tokens classified per picture. Tokens with letters are preferred."""

UNKNOWN = -100
"""Label of tokens that the loss ignores."""


class Reader(nn.Module):
    """Classifies the left and the right half of each token, which are 8 pixels wide each."""

    def __init__(self, width: int):
        super().__init__()
        self.letters = 1 + len(typesetting.LETTERS)  # 0 means no letter
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.letter = nn.Linear(width, 2 * self.letters)
        self.column = nn.Linear(width, 2 * typesetting.COLUMNS)

    def loss(self, hidden: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
        """Cross-entropy of letter and column, from image tokens [B, N, D] and the labels of
        `Painter.cells`, [B, N, 2, 2]."""
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
