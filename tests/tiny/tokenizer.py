"""A small byte-level tokenizer that handles the prompt template as Qwen3's does."""

import json
import tempfile
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import Qwen2Tokenizer

SYSTEM_SENTENCE = (
    "Describe the image by detailing the color, quantity, text, shape, size, texture, "
    "spatial relationships of the objects and background: "
)

PREFIX_POSITIONS = 28
"""Tokens of the template before the colon that ends the system sentence; the
model drops this many positions. The colon itself is kept."""

SPLIT_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Where Qwen3's tokenizer cuts text into words before merging bytes."""

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

# Words that become single tokens. Other text is split into bytes and into pieces that these words
# share.
CORPUS = (
    f"{SYSTEM_SENTENCE}a cat and a dog in the snow",
    "user\nassistant\n\n",
    "a red fox on a green hill, watercolor",
    'a poster with the text "HELLO" in blue letters',
    "the quick brown fox jumps over the lazy dog",
    "low quality, blurry, distorted",
)


def train_tokenizer() -> Qwen2Tokenizer:
    """The tokenizer for transformers; the same on every call."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=2048,  # more than there are merges
        min_frequency=2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text for text in CORPUS for _ in range(2)], trainer)
    vocabulary, merges = _vocabulary_and_merges(tokenizer)
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


def added_tokens(tokenizer: Qwen2Tokenizer) -> dict[str, int]:
    """The tokens outside of the byte-pair vocabulary, and their ids."""
    return {t: tokenizer.convert_tokens_to_ids(t) for t in SPECIAL_TOKENS + THINK_TOKENS}


def write_files(tokenizer: Qwen2Tokenizer, folder: Path) -> None:
    """Writes `vocab.json`, `merges.txt` and the added tokens, without a `tokenizer.json`.

    Qwen2's own releases and ComfyUI have the same files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary, merges = _vocabulary_and_merges(tokenizer.backend_tokenizer)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), "utf-8")
    (folder / "merges.txt").write_text(
        "#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in merges), "utf-8"
    )
    added = {
        str(index): {
            "content": token,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": token in SPECIAL_TOKENS,
        }
        for token, index in added_tokens(tokenizer).items()
    }
    config = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": added,
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
        "bos_token": None,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": 131072,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")


def _vocabulary_and_merges(tokenizer: Tokenizer) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The byte-pair model's vocabulary by id, and its merges in order."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.model.save(folder)
        vocabulary = json.loads(Path(folder, "vocab.json").read_text("utf-8"))
        lines = Path(folder, "merges.txt").read_text("utf-8").splitlines()
    merges = [tuple(line.split(" ")) for line in lines if not line.startswith("#version")]
    return dict(sorted(vocabulary.items(), key=lambda item: item[1])), merges
