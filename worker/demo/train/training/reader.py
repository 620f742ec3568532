"""An auxiliary training task: from image tokens in the middle of the transformer, predict which
letter each belongs to, which column of the letter it is, and the letter's place in the poster.

The denoising loss alone is slow to teach that the third quoted letter belongs in the third box:
at high noise, a wrong letter costs hardly more than a grey mean of all letters. Classifying the
letter gives a strong gradient from the first step on. The head exists only during training; the
checkpoint does not contain it. Compare REPA (Yu et al. 2024), which aligns a middle layer with a
pretrained vision encoder.
"""

import torch
import torch.nn.functional as F
from torch import nn

from posters import typesetting

ASKED = 32
"""Number of tokens classified per picture. Tokens with letters are preferred."""

UNKNOWN = -100
"""Label of tokens that the loss ignores."""

LABELS = (1 + len(typesetting.LETTERS), typesetting.COLUMNS, typesetting.LONGEST + 1)
"""Number of labels of each kind: letters, columns and places. 0 means no letter."""


class Reader(nn.Module):
    """Classifies the left and the right half of each token, which are 8 pixels wide each."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.heads = nn.ModuleList(nn.Linear(width, 2 * count) for count in LABELS)

    def loss(self, hidden: torch.Tensor, cells: torch.Tensor) -> torch.Tensor:
        """The sum of the heads' cross-entropies, from image tokens [B, N, D] and the labels of
        `Painter.cells`, [B, N, 2, 3]."""
        lettered = (cells[..., 0] > 0).any(-1)
        chosen = (lettered + torch.rand_like(lettered, dtype=torch.float32)).topk(ASKED).indices
        hidden = hidden.gather(1, chosen[..., None].expand(-1, -1, hidden.shape[-1]))
        cells = cells.gather(1, chosen[..., None, None].expand(-1, -1, *cells.shape[2:]))
        hidden = self.norm(hidden.float())
        device_type = hidden.device.type
        with torch.autocast(device_type, torch.bfloat16, enabled=device_type == "cuda"):
            scores = [
                head(hidden).view(-1, count) for head, count in zip(self.heads, LABELS, strict=True)
            ]
        return sum(
            F.cross_entropy(score.float(), cells[..., kind].flatten(), ignore_index=UNKNOWN)
            for kind, score in enumerate(scores)
        )
