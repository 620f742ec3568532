"""Qwen3's prompt template and its tokens, and a tokenizer that has them."""

from tokenizers import AddedToken
from transformers import Qwen2Tokenizer

SYSTEM_SENTENCE = (
    "Describe the image by detailing the color, quantity, text, shape, size, texture, "
    "spatial relationships of the objects and background: "
)

PREFIX_POSITIONS = 28
"""Number of tokens in the template before the colon that ends the system sentence. The pipeline
drops this many positions."""

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


def with_qwen_tokens(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> Qwen2Tokenizer:
    """A byte-level tokenizer of this vocabulary, followed by Qwen3's special and think tokens."""
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
