"""The border of the command line: every kind of value and output path, and what it gets."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from real_worker import RealWorker, binary, command, flags

DESCRIPTION = 0x010E
"""EXIF's ImageDescription, where JPEG and WebP files hold the parameters."""

NOBODY = 65534


def worker_command(
    name: str, *raw: str | bytes, env: dict[str, str] | None = None, **values: object
) -> subprocess.CompletedProcess[str]:
    """A command with raw arguments before the named ones, and a changed environment."""
    given = values.pop("options", {})
    return subprocess.run(
        [str(binary()), name, *raw, *flags(**values)],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=120,
        env={**os.environ, **(env or {})},
        **given,
    )


def small(tiny: Path, out: Path | str, **others: object) -> dict[str, object]:
    return {
        "model": tiny / "diffusers",
        "prompt": "a",
        "width": 64,
        "height": 48,
        "steps": 1,
        "cfg": 1,
        "device": "cpu",
        "out": out,
        **others,
    }


def refusal(result: subprocess.CompletedProcess[str]) -> str:
    """The one sentence of a refusal, which came before anything was loaded."""
    assert result.returncode in (1, 2), result
    assert "panicked" not in result.stderr and "unexpected failure" not in result.stderr
    assert "loading" not in result.stderr, result.stderr
    assert "\x1b" not in result.stderr
    error, *rest = result.stderr.splitlines()
    assert error.startswith("error: "), result.stderr
    assert not any(line.startswith("error: ") for line in rest)
    return error


# Output paths


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that every user may enter and write to."""
    path = Path(tempfile.mkdtemp(prefix="ovis-border-"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


def a_folder(at: Path) -> str:
    (at / "x.png").mkdir()
    return "x.png"


def a_fifo(at: Path) -> str:
    os.mkfifo(at / "x.png")
    return "x.png"


def a_dangling_link(at: Path) -> str:
    (at / "x.png").symlink_to("gone.png")
    return "x.png"


def a_link_to_a_device(at: Path) -> str:
    (at / "x.png").symlink_to("/dev/null")
    return "x.png"


def a_file_as_parent(at: Path) -> str:
    (at / "file").write_text("")
    return "file/x.png"


PATHS = {
    "folder": (a_folder, "is a folder"),
    "folder by its slash": (lambda at: "new.png/", "name is that of a folder"),
    "missing parent": (lambda at: "no/where/x.png", "the folder "),
    "file as parent": (a_file_as_parent, "Not a directory"),
    "fifo": (a_fifo, "a pipe or a device"),
    "device": (a_link_to_a_device, "a pipe or a device"),
    "dangling link": (a_dangling_link, "a link to what does not exist"),
    "no suffix": (lambda at: "noext", "has no suffix"),
    "suffix alone": (lambda at: ".png", "has no suffix"),
    "other suffix": (lambda at: "x.gif", "would be a .gif file"),
    "suffix and space": (lambda at: "x.png ", "would be a .png  file"),
    "too long": (lambda at: "x" * 300 + ".png", "File name too long"),
    "escape characters": (lambda at: "no\n\x1b[31m/x.png", "no\\n\\u{1b}[31m"),
}


@pytest.mark.parametrize(
    ("option", "case"),
    [("out", case) for case in PATHS]
    + [("latents_out", case) for case in PATHS if "suffix" not in case],
)
def test_a_path_that_cannot_be_written(tiny: Path, folder: Path, case: str, option: str) -> None:
    make, words = PATHS[case]
    wrong = f"{folder}/{make(folder)}"
    before = sorted(folder.rglob("*"))
    values = small(tiny, folder / "good.png") | {option: wrong}
    error = refusal(worker_command("generate", **values))
    assert words in error, error
    assert sorted(folder.rglob("*")) == before


def test_an_empty_path() -> None:
    result = worker_command("generate", "--out", "", prompt="a")
    assert "--out" in refusal(result)


def as_nobody() -> dict[str, object]:
    if os.geteuid() != 0:
        return {}
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []}


@pytest.mark.parametrize("protected", ["folder", "file"])
def test_what_is_protected_is_not_written(tiny: Path, folder: Path, protected: str) -> None:
    # Root may write anywhere, so this is another user's run, on copies it can read.
    program = folder / "ovis-worker"
    shutil.copy(binary(), program)
    shutil.copytree(tiny / "diffusers", folder / "model")
    subprocess.run(["chmod", "-R", "a+rX", folder / "model"], check=True)
    place = folder / "place"
    place.mkdir()
    out = place / "x.png"
    if protected == "file":
        out.write_bytes(b"precious")
        out.chmod(0o444)
        place.chmod(0o777)
    else:
        place.chmod(0o555)
    values = small(tiny, out) | {"model": folder / "model"}
    result = subprocess.run(
        [program, "generate", *flags(**values)],
        capture_output=True, text=True, timeout=120, **as_nobody(),
    )  # fmt: skip
    assert "not yours to write" in refusal(result)
    assert protected == "folder" or out.read_bytes() == b"precious"


def with_files_of_at_most(size: int) -> dict[str, object]:
    """What a disk without room does: larger files fail to be written."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return {"preexec_fn": limit}


def test_a_disk_without_room_is_told_before_the_work(tiny: Path, tmp_path: Path) -> None:
    old = tmp_path / "x.png"
    old.write_bytes(b"precious")
    values = small(tiny, old, options=with_files_of_at_most(100))
    assert "cannot be written" in refusal(worker_command("generate", **values))
    assert [(f.name, f.read_bytes()) for f in tmp_path.iterdir()] == [("x.png", b"precious")]


def wait_for(stream: Sequence[str], word: str) -> None:
    for line in stream:
        if word in line:
            return
    raise AssertionError(f"no {word}")


@pytest.mark.parametrize("lost", ["latents", "picture", "one of a batch"])
def test_each_output_is_written_on_its_own(tiny: Path, tmp_path: Path, lost: str) -> None:
    """A place that goes away while steps run costs what was to go there, and nothing else."""
    away, stays = tmp_path / "away", tmp_path / "stays"
    away.mkdir(), stays.mkdir()
    picture, latents, batch = stays / "x.png", away / "l.safetensors", None
    if lost == "picture":
        picture, latents = away / "x.png", stays / "l.safetensors"
    if lost == "one of a batch":
        picture, latents, batch = stays / "x.png", stays / "l.safetensors", 3
    values = small(tiny, picture, latents_out=latents, steps=150, batch=batch)
    process = subprocess.Popen(
        [binary(), "generate", *flags(**values)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(process.stderr, "step ")
    away.rmdir()
    if batch:
        (stays / "x-1.png").mkdir()
    out, err = process.communicate(timeout=240)
    assert process.returncode == 1
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "cannot be written" in errors[0]
    expected = {
        "latents": ["x.png"],
        "picture": ["l.safetensors"],
        "one of a batch": ["l.safetensors", "x-0.png", "x-1.png", "x-2.png"],
    }[lost]
    assert sorted(f.name for f in stays.iterdir()) == expected
    printed = [Path(line).name for line in out.splitlines()]
    assert printed == [n for n in expected if n.endswith(".png") and (stays / n).is_file()]


def test_the_two_outputs_are_two_files(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    values = small(tiny, tmp_path / "x.png", latents_out=tmp_path / "link" / "x.png")
    assert "both a picture and the latents" in refusal(worker_command("generate", **values))


def parameters(file: Path) -> dict:
    with Image.open(file) as image:
        image.load()
        if image.format == "PNG":
            return json.loads(image.text["ovis-worker"])
        return json.loads(image.getexif()[DESCRIPTION])


@pytest.mark.parametrize(
    ("suffix", "kind", "most"),
    [
        ("png", "PNG", 0),
        ("PNG", "PNG", 0),
        ("webp", "WEBP", 0),
        ("jpg", "JPEG", 12),
        ("JPEG", "JPEG", 12),
    ],
)
def test_the_suffix_decides_the_format(
    tiny: Path, tmp_path: Path, suffix: str, kind: str, most: int
) -> None:
    """The same pixels in every format, and how they were made."""
    prompt = 'zürich 雪 🎨 "HELLO"\n\x1b'
    reference, out = tmp_path / "reference.png", tmp_path / f"x.{suffix}"
    for file in (reference, out):
        result = worker_command("generate", **small(tiny, file, prompt=prompt))
        assert result.returncode == 0, result.stderr
    with Image.open(out) as image:
        assert (image.format, image.size, image.mode) == (kind, (64, 48), "RGB")
        found = np.asarray(image, np.int16)
    difference = np.abs(found - np.asarray(Image.open(reference), np.int16))
    assert difference.mean() <= most / 4 and difference.max() <= most * 8
    assert parameters(out) == parameters(reference)
    assert parameters(out)["prompt"] == prompt


def test_a_jpeg_says_that_it_lacks_long_parameters(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.jpg"
    result = worker_command("generate", **small(tiny, out, prompt="雪" * 11_000))
    assert result.returncode == 0
    assert "warning: " in result.stderr and "does not hold its parameters" in result.stderr
    assert Image.open(out).size == (64, 48)


def test_an_existing_file_keeps_its_mode_and_its_links(tiny: Path, tmp_path: Path) -> None:
    real, link = tmp_path / "real.png", tmp_path / "link.png"
    real.write_bytes(b"old")
    real.chmod(0o640)
    link.symlink_to(real)
    assert worker_command("generate", **small(tiny, link)).returncode == 0
    assert link.is_symlink() and real.stat().st_mode & 0o777 == 0o640
    assert parameters(real)["prompt"] == "a"


# Values


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
def test_the_length_of_the_queue(value: str) -> None:
    error = refusal(worker_command("serve", "--queue", value))
    assert error == f"error: --queue is `{value}`: it is not a whole number from 1 to 65536"


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


# Tokens


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0"])
@pytest.mark.parametrize("token", [None, "", " \t"])
def test_other_machines_need_a_token(tiny: Path, address: str, token: str | None) -> None:
    if address.startswith("[") and not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    result = worker_command(
        "serve", model=tiny / "diffusers", listen=address, device="cpu",
        env={"OVIS_WORKER_TOKEN": token} if token is not None else None,
    )  # fmt: skip
    assert result.returncode == 1
    error, hint = result.stderr.splitlines()[-2:]
    assert error.startswith("error: other machines can reach ")
    assert "head -c 24 /dev/urandom | base64" in hint and "--insecure" in hint
    assert len(token or "") == 0 or "is blank, which is no token" in result.stderr


def test_the_command_of_the_hint_makes_a_token(tiny: Path) -> None:
    text = worker_command("serve", model=tiny / "diffusers", listen="0.0.0.0:0").stderr
    line = text.partition("export ")[2].partition(";")[0]
    made = subprocess.run(
        ["sh", "-c", f'export {line}; printf %s "$OVIS_WORKER_TOKEN"'],
        capture_output=True, text=True,
    )  # fmt: skip
    assert len(made.stdout) == 32 and made.stdout.isascii()


@pytest.mark.parametrize("name", ["environment", "flag"])
@pytest.mark.parametrize(
    "token", ["s3cret\n", " s3cret", "s3\x1bcret", "s3\u202ecret", "s3cret" * 200, b"s3cret\xff"]
)
def test_a_token_that_cannot_travel(tiny: Path, name: str, token: str | bytes) -> None:
    by = {"environment": ([], {"OVIS_WORKER_TOKEN": token}), "flag": (["--token", token], {})}
    raw, env = by[name]
    result = subprocess.run(
        [binary(), "serve", *raw, *flags(model=tiny / "diffusers", listen="127.0.0.1:0")],
        capture_output=True, timeout=60, env={**os.environ, **env},
    )  # fmt: skip
    assert result.returncode == 1
    text = result.stderr.decode()
    assert text.startswith("error: the token ") and "hint: Make another" in text
    assert "s3" not in text and "cret" not in text.replace("secret", "")


@pytest.mark.parametrize("by_flag", [True, False])
@pytest.mark.parametrize("token", ["", "  "])
def test_a_blank_token_is_none_and_is_said(
    tiny: Path, tmp_path: Path, token: str, by_flag: bool
) -> None:
    with RealWorker(
        tiny / "diffusers", tmp_path / "log", token=token, token_by_flag=by_flag, device="cpu"
    ) as worker:
        assert worker.encode(["a"], 8).shape == (1, 8, 64)
    assert (tmp_path / "log").read_text().count("is blank, which is no token") == 1


def test_insecure_is_said(tiny: Path, tmp_path: Path) -> None:
    with RealWorker(tiny / "diffusers", tmp_path / "log", device="cpu", insecure=True) as worker:
        assert worker.encode(["a"], 8).shape == (1, 8, 64)
    process = subprocess.Popen(
        [binary(), "serve", *flags(model=tiny / "diffusers", listen="0.0.0.0:0", insecure=True)],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(process.stderr, "other machines can use this worker")
    wait_for(process.stderr, "ready")
    process.terminate()
    process.stderr.close()
    assert process.wait(60) == 0


def test_help_does_not_show_the_token() -> None:
    text = worker_command("serve", "--help", env={"OVIS_WORKER_TOKEN": "s3cret"}).stdout
    assert "OVIS_WORKER_TOKEN" in text and "s3cret" not in text


# The process around it


@pytest.mark.parametrize("backtrace", ["0", "1", "full"])
@pytest.mark.parametrize("wrong", ["device", "weights", "value"])
def test_no_error_has_a_backtrace(tiny: Path, tmp_path: Path, backtrace: str, wrong: str) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny / "diffusers", model)
    values = small(tiny, tmp_path / "x.png") | {"model": model}
    if wrong == "device":
        values["device"] = "cuda:99"
    if wrong == "value":
        values["sampler"] = "none"
    if wrong == "weights":
        (file,) = (model / "vae").glob("*.safetensors")
        file.write_bytes(file.read_bytes()[:-100])
    variables = {"RUST_BACKTRACE": backtrace, "RUST_LIB_BACKTRACE": backtrace}
    result = worker_command("generate", **values, env=variables)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) <= 2, result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect", "MODEL"],
        ["inspect", "MODEL", "--json"],
        ["--help"],
        ["serve", "--help"],
        ["--version"],
    ],
)
def test_a_reader_that_is_gone_is_no_error(tiny: Path, arguments: list[str]) -> None:
    arguments = [str(tiny / "diffusers") if a == "MODEL" else a for a in arguments]
    reading, writing = os.pipe()
    os.close(reading)
    result = subprocess.run(
        [binary(), *arguments], stdout=writing, stderr=subprocess.PIPE, timeout=60
    )
    os.close(writing)
    assert (result.returncode, result.stderr) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("arguments", [["inspect", "MODEL"], ["--help"]])
def test_an_output_without_room_is_told(tiny: Path, arguments: list[str]) -> None:
    arguments = [str(tiny / "diffusers") if a == "MODEL" else a for a in arguments]
    with Path("/dev/full").open("wb") as full:
        result = subprocess.run([binary(), *arguments], stdout=full, stderr=subprocess.PIPE)
    assert result.returncode == 1
    assert result.stderr.startswith(b"error: standard output cannot be written: ")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_closed_streams(tiny: Path, tmp_path: Path, closed: str) -> None:
    out = tmp_path / "x.png"
    line = [str(binary()), "generate", *flags(**small(tiny, out))]
    result = subprocess.run(
        ["sh", "-c", f'"$@" {closed}', "sh", *line], capture_output=True, timeout=120
    )
    assert result.returncode == 0 and b"panicked" not in result.stderr
    assert parameters(out)["prompt"] == "a"


def test_a_bare_environment(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.png"
    result = subprocess.run(
        [binary(), "generate", *flags(**small(tiny, out, prompt="雪"))],
        capture_output=True, timeout=120,
        env={"LC_ALL": "C", "TMPDIR": "/no/where", "HOME": "/no/where"},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert parameters(out)["prompt"] == "雪"


def test_a_working_folder_that_was_removed(tiny: Path, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    line = [str(binary()), "generate", *flags(**small(tiny, "x.png"))]
    result = subprocess.run(
        ["sh", "-c", 'rmdir "$PWD" && exec "$@"', "sh", *line],
        capture_output=True, text=True, timeout=120, cwd=gone,
    )  # fmt: skip
    assert "x.png cannot be written" in refusal(result)
    out = tmp_path / "x.png"
    gone.mkdir()
    line = [str(binary()), "generate", *flags(**small(tiny, out))]
    result = subprocess.run(
        ["sh", "-c", 'rmdir "$PWD" && exec "$@"', "sh", *line],
        capture_output=True, text=True, timeout=120, cwd=gone,
    )  # fmt: skip
    assert result.returncode == 0 and out.is_file()


# Signals


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("when", ["loading", "step "])
def test_generate_ends_at_once_when_asked(
    tiny: Path, tmp_path: Path, sent: signal.Signals, when: str
) -> None:
    out = tmp_path / "x.png"
    out.write_bytes(b"precious")
    values = small(tiny, out, steps=1000, width=512, height=512)
    process = subprocess.Popen(
        [binary(), "generate", *flags(**values)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    wait_for(process.stderr, when)
    begun = time.monotonic()
    process.send_signal(sent)
    _, err = process.communicate(timeout=30)
    assert time.monotonic() - begun < 1
    assert process.returncode == 128 + sent
    assert err.splitlines()[-1].startswith("error: stopped by ") and sent.name in err
    assert [(f.name, f.read_bytes()) for f in tmp_path.iterdir()] == [("x.png", b"precious")]


def test_a_hangup_that_is_ignored_stays_ignored(tiny: Path, tmp_path: Path) -> None:
    """As `nohup` starts it."""
    values = small(tiny, tmp_path / "x.png", steps=200)
    process = subprocess.Popen(
        [binary(), "generate", *flags(**values)],
        stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )  # fmt: skip
    wait_for(process.stderr, "step ")
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=120)
    assert process.returncode == 0


def test_a_hangup_ends_a_server_as_sigterm_does(tiny: Path, tmp_path: Path) -> None:
    with RealWorker(tiny / "diffusers", tmp_path / "log", device="cpu") as worker:
        worker.process.send_signal(signal.SIGHUP)
        assert worker.process.wait(30) == 0
    assert "signal=SIGHUP" in (tmp_path / "log").read_text()


def test_what_is_made_is_what_was_made(tiny: Path, tmp_path: Path) -> None:
    """The way a file is written changes nothing in it."""
    latents = tmp_path / "l.safetensors"
    result = command("generate", **small(tiny, tmp_path / "x.png", latents_out=latents))
    assert result.returncode == 0
    assert load_file(latents)["latents"].shape == (1, 16, 6, 8)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["l.safetensors", "x.png"]
