"""Prints random prompts with their posters, and how long prompts are.

    python3 -m prompts.show ASSETS [COUNT [SEED]]

Start it in worker/demo/train. ASSETS is the folder that `posters.fonts` and `prompts.distractors`
gathered.
"""

import sys
from pathlib import Path

import numpy as np

from posters.poster import Poster
from posters.random_posters import default_table, sample
from prompts.defaults import simplified
from prompts.describe import Describer
from prompts.qwen_template import PREFIX_POSITIONS
from prompts.tokenizer import Encoder, build


def summary(poster: Poster) -> str:
    """The poster in one line."""
    phrases = " + ".join(f"{p.text} ({p.size}, {p.position})" for p in poster.phrases)
    ground = poster.ground if poster.accent is None else f"{poster.ground} and {poster.accent}"
    extras = " border" * poster.border + " shadow" * poster.shadow
    return (
        f"{phrases or 'no text'}; {poster.ink} {poster.family} on {ground} {poster.surface}{extras}"
    )


def main(assets: Path, count: int = 60, seed: int = 0) -> None:
    """Prints `count` prompts and posters, and the lengths of 1000 prompts in tokens, those of the
    template after its fixed positions included."""
    rng = np.random.default_rng(seed)
    describe, encode = Describer(assets), Encoder(build(), 972)
    table = {**default_table(), "assets": assets}
    lengths = []
    for number in range(max(count, 1000)):
        poster = simplified(rng, sample(rng, table, (256, 256)))
        prompt = describe(rng, poster)
        lengths.append(encode(prompt)[1] - PREFIX_POSITIONS)
        if number < count:
            print(f"{prompt}\n    -> {summary(poster)}")
    print(
        f"tokens: median {np.median(lengths):.0f}, 95 %: {np.percentile(lengths, 95):.0f}, "
        f"above 128: {np.mean(np.array(lengths) > 128):.1%}"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
