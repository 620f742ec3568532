"""Edge cases of the command line: every kind of value, and how it is answered."""

from __future__ import annotations

from pathlib import Path

import pytest

from border_cli import parameters, refusal, small, worker_command

LARGE = "99999999999999999999999"
NO_NUMBER = [
    "",
    " ",
    "nan",
    "inf",
    "1e99",
    "0x10",
    "1_000",
    "1,5",
    "\uff15\uff10",
    "many",
    "-",
    "--",
    "1.5",
    "-3",
]
WHOLE = ["width", "height", "steps", "batch", "seed", "max-sequence-length"]


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("value", [*NO_NUMBER, LARGE, b"\xff5"])
def test_a_text_that_is_no_whole_number(name: str, value: str | bytes) -> None:
    given = {"prompt": "a", "out": "x.png"}
    result = worker_command("generate", f"--{name}", value, **given)
    assert result.returncode == 2
    assert refusal(result).startswith(f"error: --{name} is `")
    assert result.stderr.splitlines()[1:] == ["hint: --help says what each argument takes."]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("seed", "-1", "seeds are whole numbers from 0 to 18446744073709551615"),
        ("seed", str(2**64), "seeds are whole numbers"),
        ("cfg", "five", "not a number"),
        ("cfg", "\uff14", "not a number"),
        ("cfg", "", "not a number"),
        ("cfg", "-1", "cfg is -1, outside 0 to 100"),
        ("cfg", "nan", "cfg is NaN"),
        ("cfg", "1e99", "outside 0 to 100"),
        ("cfg", "-inf", "cfg is -inf"),
        ("shift", "-3", "shift is -3"),
        ("shift", "nan", "shift is NaN"),
        ("shift", "\uff11", "neither `auto` nor a number"),
        ("shift", "", "neither `auto` nor a number"),
        ("steps", "0", "steps is 0, outside 1 to 1000"),
        ("steps", "4000000000", "steps is 4000000000"),
        ("max-sequence-length", "0", "max_sequence_length is 0"),
        ("guidance-interval", "0.9", "0.9,0.2"),
        ("guidance-interval", "0.9\uff0c0.2", "0.9,0.2"),
        ("guidance-interval", "", "0.9,0.2"),
        ("guidance-interval", "nan,0", "guidance from sigma NaN"),
        ("guidance-interval", "-1,0", "guidance from sigma -1"),
        ("guidance-interval", "0.5,inf", "to inf"),
        ("sampler", "", "``"),
        ("sampler", "-euler", "`-euler`"),
        ("sampler", "a\n\x1b[2J", "\\u{1b}"),
        ("scheduler", "x" * 100_000, "`xxx"),
        ("cache", "-", "--cache"),
        ("precision", "", "--precision"),
        ("device", "", "not a device"),
        ("device", "cuda:-1", "not a device"),
        ("device", "cuda:" + LARGE, "not a device"),
        ("device", "cuda:\uff11", "not a device"),
        ("width", "15", "from 16 to 16384"),
        ("width", "100", "multiple of 16"),
        ("batch", "1025", "from 1 to 1024"),
    ],
)
def test_a_value_outside_what_is_taken(
    tiny: Path, tmp_path: Path, name: str, value: str, words: str
) -> None:
    values = small(tiny, tmp_path / "x.png", **{"width": None} if name == "width" else {})
    values.pop(name.replace("-", "_"), None)
    error = refusal(worker_command("generate", f"--{name}={value}", **values))
    assert words in error, error[:400]
    assert len(error) < 2000
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("width", "height", "batch"),
    [(16384, 16384, 1), (16384, 16384, 1024), (1024, 1024, 1024), (4096, 4096, 6)],
)
def test_too_many_pixels_are_told_before_anything(
    tiny: Path, tmp_path: Path, width: int, height: int, batch: int
) -> None:
    values = small(tiny, tmp_path / "x.png", width=width, height=height, batch=batch)
    assert "pixels in all" in refusal(worker_command("generate", **values))


@pytest.mark.parametrize(
    "prompt", ["-5 °C", "--", "-", "--5", "", " ", "\n", "\x1b[31m", "‮", "💥" * 300]
)
def test_any_text_is_a_prompt(tiny: Path, tmp_path: Path, prompt: str) -> None:
    values = small(tiny, tmp_path / "x.png", cfg=2) | {"prompt": None}
    result = worker_command("generate", "--prompt", prompt, "--negative", prompt, **values)
    assert result.returncode == 0, result.stderr
    found = parameters(tmp_path / "x.png")
    assert (found["prompt"], found["negative"]) == (prompt, prompt)


@pytest.mark.parametrize("name", ["prompt", "negative"])
def test_a_prompt_that_is_none(tiny: Path, tmp_path: Path, name: str) -> None:
    values = small(tiny, tmp_path / "x.png")
    values.pop(name, None)
    error = refusal(worker_command("generate", f"--{name}", b"caf\xe9", **values))
    assert f"--{name} is `" in error and "not UTF-8" in error
    long = refusal(worker_command("generate", f"--{name}", "x" * 50_000, **values))
    assert "50000 bytes, the most is 49152" in long


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("width", ["0", "-16", "1e3", "99999999999"]),
        ("steps", ["", "-1", "0x5"]),
        ("cfg", ["x", "\uff15"]),
        ("repeats", ["0", "-1", "4294967295", LARGE]),
        ("warmup", ["-1", "4294967295", "1.0"]),
    ],
)
def test_the_values_of_bench(name: str, values: list[str]) -> None:
    for value in values:
        error = refusal(worker_command("bench", f"--{name}", value))
        assert error.startswith(f"error: --{name} is `{value}`: ")


@pytest.mark.parametrize("value", ["0", "-1", "", "1e3", LARGE, "65537"])
@pytest.mark.parametrize("name", ["queue", "connections"])
def test_the_numbers_of_places(name: str, value: str) -> None:
    error = refusal(worker_command("serve", f"--{name}", value))
    assert error == f"error: --{name} is `{value}`: it is not a whole number from 1 to 65536"


@pytest.mark.parametrize(
    "value",
    ["", "7867", "127.0.0.1", ":7867", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:-1",
     "127.0.0.1\uff1a7867", "http://127.0.0.1:7867", "::1", "127.0.0.1:78 67", "-", "a\nb:1"],
)  # fmt: skip
def test_an_address_that_is_none(tiny: Path, value: str) -> None:
    error = refusal(worker_command("serve", "--listen", value, model=tiny / "diffusers"))
    assert error.startswith("error: `") and error.endswith("` is not an address to listen on")


def test_an_argument_that_is_none_is_shown_without_its_escape_characters() -> None:
    result = worker_command("generate", "--\x1b[31mred\x07")
    assert result.returncode == 2
    assert not any(c in result.stderr for c in "\x1b\x07")
