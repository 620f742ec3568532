"""A byte-level tokenizer of Qwen's form that splits quoted words into single letters."""

import re
from functools import cache
from pathlib import Path

import numpy as np
from tokenizers.pre_tokenizers import ByteLevel
from transformers import Qwen2Tokenizer

from prompts.qwen_template import PREFIX_POSITIONS, SYSTEM_SENTENCE, with_qwen_tokens

FULL_POSITIONS = 256
"""Number of positions that the pipeline pads a prompt to."""

LISTS = Path(__file__).parents[1] / "lists"

PUNCTUATION = (
    ' "', " “", " '", " \u2018", " «", " 「", " 『", "“", "”", "\u2018", "’", "「", "」", "『",
    "』", "«", "»", "„", "，", "。", "、", "；", "：", "！", "？", "《", "》", "·", "…", "–", "—",
    "€", "£", "¥", "×", "é",
)  # fmt: skip
"""Signs of several bytes, and opening quotes after a space, that are one token each."""


def build() -> Qwen2Tokenizer:
    """Builds the tokenizer. The result is always the same.

    Its merges are constructed, not learned from a corpus. The merges of a word start with the space
    before it and have lower-case letters only. None of them applies to the first word inside
    quotes or to upper-case letters, which therefore stay single letters; a later word inside quotes
    that is in lower case may be a token of its own. Each word is read as its longest beginning that
    is a token, followed by single letters. The bytes of a Chinese character become one token, and
    every digit is one.
    """
    byte_names = sorted(ByteLevel.alphabet())
    vocabulary = {name: index for index, name in enumerate(byte_names)}
    merges: list[tuple[str, str]] = []

    def add(word: str) -> None:
        """Merges for `word`, left to right."""
        pieces = _as_bytes(word)
        for end in range(1, len(pieces)):
            left, right = pieces[:end], pieces[end]
            if left + right not in vocabulary:
                vocabulary[left + right] = len(vocabulary)
                merges.append((left, right))

    def add_sign(text: str) -> None:
        """Merges for a sign of several bytes; the space before it is merged last."""
        sign = text.lstrip()
        add(sign)
        if sign != text:
            joined = "".join(_as_bytes(text))
            vocabulary[joined] = len(vocabulary)
            merges.append((joined[0], joined[1:]))

    for char in characters():
        add(char)
    for sign in PUNCTUATION:
        add_sign(sign)
    # The pieces that the template has without a space before them, and the end of an empty
    # thought; then the words of the system sentence and of the prompts.
    for word in ("user", "Describe", "\n\n"):
        add(word)
    sentence = re.findall(r"[a-z]+", SYSTEM_SENTENCE.partition(" ")[2])
    for word in dict.fromkeys(sentence + frequent_words()):
        add(f" {word}")

    return with_qwen_tokens(vocabulary, merges)


def _as_bytes(text: str) -> str:
    """The text's bytes, each as the printable character that represents it in byte-level BPE."""
    pieces = ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
    return "".join(piece for piece, _ in pieces)


@cache
def characters() -> str:
    """The Chinese characters that are one token each: all that posters can draw, then those that
    the prompts use beside them. The lists are fixed, because a checkpoint's embedding table has a
    row for each token in this order; new wording has to do with these characters."""
    texts = [
        (LISTS / f"{name}.txt").read_text("utf-8") for name in ("characters", "prompt_characters")
    ]
    return "".join(dict.fromkeys(re.findall(r"[\u4e00-\u9fff]", "".join(texts))))


@cache
def frequent_words() -> list[str]:
    """The frequent lower-case words of prompts, the most useful first; see `prompts.frequent`."""
    return (LISTS / "words.txt").read_text("utf-8").split()


def templated(tokenizer: Qwen2Tokenizer, prompt: str) -> str:
    """The prompt in the pipeline's chat template."""
    message = {"role": "user", "content": SYSTEM_SENTENCE + prompt}
    return tokenizer.apply_chat_template(
        [message], tokenize=False, add_generation_prompt=True, enable_thinking=False
    )


class Encoder:
    """Encodes prompts to ids, padded to `PREFIX_POSITIONS` + `positions`."""

    def __init__(self, tokenizer: Qwen2Tokenizer, positions: int):
        self.backend = tokenizer.backend_tokenizer
        self.length = PREFIX_POSITIONS + positions
        self.pad = tokenizer.pad_token_id
        # Rendering the template for every prompt would be slow: it is rendered once.
        self.before, self.after = templated(tokenizer, "\0").split("\0")

    def __call__(self, prompt: str) -> tuple[np.ndarray, int] | None:
        """The ids, and how many of them are not padding; None if the prompt is too long."""
        text = self.before + prompt + self.after
        ids = self.backend.encode(text, add_special_tokens=False).ids
        if len(ids) > self.length:
            return None
        padded = np.full(self.length, self.pad, np.int16)
        padded[: len(ids)] = ids
        return padded, len(ids)
