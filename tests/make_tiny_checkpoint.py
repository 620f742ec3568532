#!/usr/bin/env python3
"""Makes a tiny Ovis-Image checkpoint in the three common layouts.

    make_tiny_checkpoint.py OUT [--dtype f32|bf16] [--seed 0] [--max-shard-size 200KB]

Writes `OUT/diffusers/`, `OUT/original/` and `OUT/comfyui/` with the same weights: the architecture
of Ovis-Image with a small geometry and random values. Its images look like noise, but every
intermediate value can be compared with the reference implementations within seconds on a CPU.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import diffusers
import torch
import transformers

from tiny import layouts, models
from tiny.tokenizer import train_tokenizer

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def make(
    out: Path,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    max_shard_size: str | None = None,
    **sizes: int,
) -> None:
    """Writes all three layouts to `out`; the same arguments produce the same bytes.

    `sizes` are those of `models.build`.
    """
    tokenizer = train_tokenizer()
    parts = models.build(seed, vocab_size=len(tokenizer), dtype=dtype, **sizes)
    layouts.write_diffusers(out / "diffusers", parts, tokenizer, max_shard_size)
    layouts.write_original(out / "original", parts, tokenizer, seed)
    layouts.write_comfyui(out / "comfyui", parts, tokenizer)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder to write to; made when missing")
    parser.add_argument("--dtype", choices=DTYPES, default="f32", help="type of every weight")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random weights")
    parser.add_argument(
        "--max-shard-size",
        help="split the diffusers layout's transformer and text encoder into files of at most "
        "this size, such as 200KB",
    )
    args = parser.parse_args()
    for library in (transformers, diffusers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    make(args.out, DTYPES[args.dtype], args.seed, args.max_shard_size)
    return 0


if __name__ == "__main__":
    sys.exit(main())
