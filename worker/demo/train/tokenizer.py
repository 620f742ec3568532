"""A small byte-level tokenizer like Qwen's that splits headlines into single letters."""

import re

import numpy as np
from tokenizers import AddedToken
from tokenizers.pre_tokenizers import ByteLevel
from transformers import Qwen2Tokenizer

import designs
import headlines

SYSTEM_SENTENCE = (
    "Describe the image by detailing the color, quantity, text, shape, size, texture, "
    "spatial relationships of the objects and background: "
)

PREFIX_POSITIONS = 28
"""Number of tokens in the template before the colon that ends the system sentence. The pipeline
drops this many positions."""

FULL_POSITIONS = 256
"""Number of positions that the pipeline pads a prompt to."""

CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}"
    "{{ '<|im_start|>assistant\\n' }}"
    "{%- if enable_thinking is defined and enable_thinking is false -%}"
    "{{ '<think>\\n\\n</think>\\n\\n' }}"
    "{%- endif -%}"
    "{%- endif -%}"
)
"""Qwen3's chat template without its branches for tools, a system turn and thinking."""

# In the order of Qwen3's ids. As in Qwen3, the think tokens are not special tokens.
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
THINK_TOKENS = ("<think>", "</think>")


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

    result = Qwen2Tokenizer(
        vocab=vocabulary,
        merges=merges,
        unk_token=None,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=["<|im_start|>", "<|im_end|>"],
        model_max_length=131072,
        # Fixes the order of the ids that follow the vocabulary.
        added_tokens_decoder={
            len(vocabulary) + i: AddedToken(
                token, special=token in SPECIAL_TOKENS, normalized=False
            )
            for i, token in enumerate(SPECIAL_TOKENS + THINK_TOKENS)
        },
    )
    result.chat_template = CHAT_TEMPLATE
    return result


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
