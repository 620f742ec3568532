"""Edge cases of output paths: every kind of place, and the result."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from border_cli import parameters, refusal, small, wait_for, worker_command
from real_worker import binary, command, flags

NOBODY = 65534


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
    # Root may write anywhere, so this runs as another user, on copies that this user can read.
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
    """Limits the size of files, which simulates a full disk."""

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


@pytest.mark.parametrize("lost", ["latents", "picture", "one of a batch"])
def test_each_output_is_written_on_its_own(tiny: Path, tmp_path: Path, lost: str) -> None:
    """If one place disappears during the steps, only the output for that place is lost."""
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
    """The same pixels in every format, with the settings that they were made with."""
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


def test_what_is_made_is_what_was_made(tiny: Path, tmp_path: Path) -> None:
    """The way in which a file is written does not change its contents."""
    latents = tmp_path / "l.safetensors"
    result = command("generate", **small(tiny, tmp_path / "x.png", latents_out=latents))
    assert result.returncode == 0
    assert load_file(latents)["latents"].shape == (1, 16, 6, 8)
    assert sorted(f.name for f in tmp_path.iterdir()) == ["l.safetensors", "x.png"]
