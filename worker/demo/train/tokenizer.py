"""A small byte-level tokenizer like Qwen's that splits headlines into single letters."""

import re

import numpy as np
from tokenizers.pre_tokenizers import ByteLevel
from transformers import Qwen2Tokenizer

import designs
import headlines
from qwen_template import PREFIX_POSITIONS, SYSTEM_SENTENCE, with_qwen_tokens

FULL_POSITIONS = 256
"""Number of positions that the pipeline pads a prompt to."""


def build() -> Qwen2Tokenizer:
    """Builds the tokenizer. The result is always the same.

    Its merges are constructed, not learned from a corpus. The merges of a prompt's word start with
    the space before it, so none applies to the first word inside quotes, which therefore stays
    split into letters. The three bytes of a Chinese character become one token.
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

    for char in headlines.CHARACTERS:
        add(char)
    # First the pieces that the template has without a space before them ("user", "Describe"),
    # the end of an empty thought and opening quotes, then the words of the system sentence and
    # of the prompts.
    for word in ("user", "Describe", "\n\n", ' "', " “"):
        add(word)
    sentence = re.findall(r"[a-z]+", SYSTEM_SENTENCE.partition(" ")[2])
    for word in dict.fromkeys(sentence + prompt_words()):
        add(f" {word}")

    return with_qwen_tokens(vocabulary, merges)


def _as_bytes(text: str) -> str:
    """The text's bytes, each as the printable character that represents it in byte-level BPE."""
    pieces = ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
    return "".join(piece for piece, _ in pieces)


def prompt_words() -> list[str]:
    """The lower-case words that prompts consist of, in a fixed order."""
    texts = [*designs.COLORS, *designs.KINDS, "a an with border"]
    for choices in (designs.STYLES, designs.SURFACES, designs.POSITIONS):
        texts += [text for options in choices.values() for text in options]
    texts += [re.sub(r"\{.\}", "", template) for template in designs.TEMPLATES]
    return sorted({word for text in texts for word in re.findall(r"\b[a-z]+\b", text)})


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
