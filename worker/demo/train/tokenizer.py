"""A byte-level tokenizer in Qwen's style, small, that spells headlines out."""

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
"""Tokens of the template before the colon that ends the system sentence; the
pipeline drops this many positions."""

FULL_POSITIONS = 256
"""Positions that the pipeline pads a prompt to."""

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
"""What Qwen3's chat template comes to without tools, system turn or thinking."""

# In the order of Qwen3's ids; the last two are ordinary added tokens there too.
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
THINK_TOKENS = ("<think>", "</think>")


def build() -> Qwen2Tokenizer:
    """The tokenizer, the same on every call.

    Its merges are written down, not counted in a corpus. A word of the prompts is
    merged from the space before it onwards, so no merge ever applies to the first
    word inside quotes: that falls into its letters. A Chinese character's three bytes
    become one token.
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
    # The two that stand without a space in the template: "user", "Describe"; the end
    # of an empty thought; then the words of the sentence and of the prompts.
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
    """The text's bytes, each as the printable character that byte-level BPE uses."""
    pieces = ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
    return "".join(piece for piece, _ in pieces)


def prompt_words() -> list[str]:
    """The lower-case words that prompts are made of, in a fixed order."""
    texts = [*designs.COLORS, *designs.KINDS, "a an with border"]
    for choices in (designs.STYLES, designs.SURFACES, designs.POSITIONS):
        texts += [text for options in choices.values() for text in options]
    texts += [re.sub(r"\{.\}", "", template) for template in designs.TEMPLATES]
    return sorted({word for text in texts for word in re.findall(r"\b[a-z]+\b", text)})


def templated(tokenizer: Qwen2Tokenizer, prompt: str) -> str:
    """The prompt as the pipeline words it."""
    message = {"role": "user", "content": SYSTEM_SENTENCE + prompt}
    return tokenizer.apply_chat_template(
        [message], tokenize=False, add_generation_prompt=True, enable_thinking=False
    )


class Encoder:
    """Prompts to padded ids: `PREFIX_POSITIONS` and then `positions` more."""

    def __init__(self, tokenizer: Qwen2Tokenizer, positions: int):
        self.backend = tokenizer.backend_tokenizer
        self.length = PREFIX_POSITIONS + positions
        self.pad = tokenizer.pad_token_id
        # The template is rendered once; rendering it for each prompt is slow.
        self.before, self.after = templated(tokenizer, "\0").split("\0")

    def __call__(self, prompt: str) -> tuple[np.ndarray, int] | None:
        """The ids and how many are real; nothing when the prompt is too long."""
        text = self.before + prompt + self.after
        ids = self.backend.encode(text, add_special_tokens=False).ids
        if len(ids) > self.length:
            return None
        padded = np.full(self.length, self.pad, np.int16)
        padded[: len(ids)] = ids
        return padded, len(ids)
