"""A small byte-level tokenizer that handles the prompt template as Qwen3's does."""

import json
import sys
import tempfile
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import Qwen2Tokenizer

sys.path.append(str(Path(__file__).parents[2] / "worker" / "demo" / "train"))
from prompts.qwen_template import (
    CHAT_TEMPLATE,
    SPECIAL_TOKENS,
    SYSTEM_SENTENCE,
    THINK_TOKENS,
    with_qwen_tokens,
)
from prompts.qwen_template import (
    PREFIX_POSITIONS as PREFIX_POSITIONS,
)

SPLIT_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Where Qwen3's tokenizer cuts text into words before merging bytes."""

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
    return with_qwen_tokens(vocabulary, merges)


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
