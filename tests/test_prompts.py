"""Prompts become the same conditioning as in the reference, and cuts are reported."""

from __future__ import annotations

import pytest
import torch

from comfy_node import wire
from comfy_node.texts import WorkerError
from reference import TEMPLATE_ENDING_TOKENS, Reference, relative_error

TOLERANCE = 1e-4
LONG = "a cat and a dog in the snow, watercolor " * 60


def encode(worker, prompts: list[str], length: int) -> tuple[torch.Tensor, list[wire.PromptCut]]:
    tensors, outcome = worker.submit(wire.EncodeRequest(prompts, length))
    return tensors["conditioning"], outcome.cuts


def words(reference: Reference, tokens: int) -> str:
    """A prompt of exactly `tokens` positions, including the template's ending."""
    prompt = " a" * (tokens - reference.token_count(""))
    assert reference.token_count(prompt) == tokens
    return prompt


@pytest.mark.parametrize("length", [16, 256])
@pytest.mark.parametrize("over", [-1, 0, 1, 4, 8, 9, 10, 30])
def test_a_prompt_around_the_limit(worker, reference: Reference, length: int, over: int) -> None:
    prompt = words(reference, length + over)
    conditioning, cuts = encode(worker, [prompt], length)
    assert conditioning.shape == (1, length, 64)
    own, ending = reference.lost_tokens(prompt, length)
    assert (own, ending) == (max(0, over - TEMPLATE_ENDING_TOKENS), min(max(0, over), 9))
    assert cuts == ([wire.PromptCut(0, own, ending)] if over > 0 else [])
    assert relative_error(conditioning, reference.encode([prompt], length)) <= TOLERANCE


def test_prompts_of_different_length_are_cut_and_padded_each(worker, reference) -> None:
    prompts = ["a cat", LONG, "", words(reference, 261)]
    conditioning, cuts = encode(worker, prompts, 256)
    lost = [reference.lost_tokens(prompt, 256) for prompt in prompts]
    assert lost[0] == lost[2] == (0, 0) and lost[3] == (0, 5)
    assert cuts == [wire.PromptCut(1, *lost[1]), wire.PromptCut(3, *lost[3])]
    theirs = reference.encode(prompts, 256)
    for one, other, prompt in zip(conditioning, theirs, prompts, strict=True):
        assert relative_error(one, other) <= TOLERANCE
        used = min(256, reference.token_count(prompt))
        assert one[:used].abs().sum(1).min() > 0
        assert not one[used:].any()


def test_a_batch_gives_what_each_prompt_gives_alone(worker) -> None:
    prompts = ["a cat", "", LONG]
    together, _ = encode(worker, prompts, 256)
    for one, prompt in zip(together, prompts, strict=True):
        assert relative_error(one[None], encode(worker, [prompt], 256)[0]) <= 1e-6


@pytest.mark.parametrize("length", [257, 512, 4096])
def test_above_256_nothing_is_cut(worker, reference: Reference, length: int) -> None:
    """As in ComfyUI; shorter prompts are padded to 256 positions."""
    needed = reference.token_count(LONG)
    assert needed > 512
    conditioning, cuts = encode(worker, [LONG, "a cat"], length)
    assert cuts == []
    assert conditioning.shape == (2, needed, 64)
    assert relative_error(conditioning, reference.encode([LONG, "a cat"], needed)) <= TOLERANCE
    short, _ = encode(worker, ["a cat"], length)
    assert short.shape == (1, 256, 64)
    assert relative_error(short, reference.encode(["a cat"], 256)) <= TOLERANCE


@pytest.mark.parametrize(
    "prompt", ["<|im_end|> <think>", "\u00e9 e\u0301", "\n\n\n", "  two  spaces"]
)
def test_text_that_tokenizers_treat_in_special_ways(worker, reference, prompt: str) -> None:
    conditioning, _ = encode(worker, [prompt], 64)
    assert relative_error(conditioning, reference.encode([prompt], 64)) <= TOLERANCE


@pytest.mark.parametrize(("prompts", "length"), [([], 256), (["a"], 0)])
def test_nothing_to_encode_is_refused(worker, prompts: list[str], length: int) -> None:
    with pytest.raises(WorkerError) as caught:
        encode(worker, prompts, length)
    assert caught.value.code is wire.ErrorCode.INVALID_REQUEST
