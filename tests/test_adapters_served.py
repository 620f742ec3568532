"""Jobs that name adapters of the worker's folders: the same latents as merged weights, for each job
by itself; lists of adapters; and what is said of missing ones."""

from __future__ import annotations

import hashlib
import json
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from adapter_files import Draw, kohya_names, linear_shapes, loras, merged, peft_names, write
from comfy_node import wire
from comfy_node.texts import WorkerError
from real_worker import RealWorker
from reference import noise, relative_error
from test_adapter_kinds import model_of

TOLERANCE = 1e-5
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


@pytest.fixture(scope="module")
def folder(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two adapters that fit the tiny model and a file that does not."""
    folder = tmp_path_factory.mktemp("loras")
    pairs = loras(linear_shapes(model_of(tiny / "diffusers" / "transformer")))
    (folder / "styles").mkdir()
    metadata = {"modelspec.title": "Neon", "trigger_words": "neon, glow"}
    write(folder / "styles" / "neon.safetensors", peft_names(pairs, "transformer."), metadata)
    (folder / "styles" / "neon.png").write_bytes(PNG)
    few = {name: pair for name, pair in pairs.items() if "single" in name}
    tensors = kohya_names(few, "lora_unet_", alpha=1.0)
    draw = Draw(4)
    text = {"layers.0.self_attn.q_proj": (draw(4, 64), draw(64, 4))}
    write(folder / "both.safetensors", tensors | peft_names(text, "text_encoder."))
    write(folder / "foreign.safetensors", {"lora_unet_mid.lora_down.weight": torch.ones(1, 4)})
    return folder


@pytest.fixture(scope="module")
def served(tiny: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory):
    log = tmp_path_factory.mktemp("served") / "worker.log"
    with RealWorker(tiny / "diffusers", log, device="cpu", lora_dir=folder) as worker:
        yield worker


def denoise(worker: RealWorker, *adapters: wire.AdapterUse, steps: int = 2, seed: int = 3):
    return worker.denoise(
        torch.zeros(1, 16, 8, 8), noise(1, 1, 8, 64), noise(2, 1, 8, 64), seed=seed, steps=steps,
        cfg=3.0, adapters=list(adapters),
    )  # fmt: skip


def named(name: str, strength: float = 1.0, **fields: object) -> wire.AdapterUse:
    return wire.AdapterUse(name, None, strength, strength, **fields)


def test_adapters_that_fit_are_listed(served: RealWorker, folder: Path) -> None:
    both, neon = served.client.adapters().result(60)
    assert (both.name, neon.name) == ("both.safetensors", "styles/neon.safetensors")
    assert neon.hash == hashlib.sha256((folder / neon.name).read_bytes()).digest()
    assert neon.bytes == (folder / neon.name).stat().st_size
    assert (neon.title, neon.triggers, neon.rank) == ("Neon", ["neon", "glow"], 4)
    assert (neon.kind, neon.parts, neon.preview) == ("lora", ["transformer"], PNG)
    assert both.parts == ["transformer", "text_encoder"] and both.title is None


def test_a_job_has_the_latents_of_merged_weights(
    served: RealWorker, tiny: Path, folder: Path, tmp_path: Path
) -> None:
    plain = denoise(served)
    found = denoise(served, named("styles/neon.safetensors", 0.7))
    pairs = loras(linear_shapes(model_of(tiny / "diffusers" / "transformer")))
    (file,) = (tiny / "diffusers" / "transformer").glob("*.safetensors")
    transformer = write(tmp_path / "merged.safetensors", merged(load_file(file), pairs, 0.7))
    log = tmp_path / "worker.log"
    with RealWorker(tiny / "diffusers", log, device="cpu", transformer=transformer) as other:
        wanted = denoise(other)
    assert relative_error(found, wanted) <= TOLERANCE
    assert relative_error(plain, wanted) > 1e-3
    assert torch.equal(denoise(served, seed=3), plain)


def test_jobs_with_other_stacks_run_side_by_side(served: RealWorker) -> None:
    stacks = [
        [],
        [named("styles/neon.safetensors")],
        [named("both.safetensors", -0.5), named("styles/neon.safetensors", 0.3)],
        [named("styles/neon.safetensors", interval=wire.SigmaInterval(1.0, 0.5))],
    ]
    alone = [denoise(served, *stack, steps=6, seed=8) for stack in stacks]
    assert all(not torch.equal(alone[0], one) for one in alone[1:])
    with ThreadPoolExecutor(len(stacks)) as pool:
        # A step more is another job, and the first steps of both are the same.
        together = list(pool.map(lambda stack: denoise(served, *stack, steps=7, seed=8), stacks))
    again = [denoise(served, *stack, steps=7, seed=8) for stack in stacks]
    assert all(torch.equal(one, other) for one, other in zip(together, again, strict=True))


def test_prompts_are_encoded_with_adapters(served: RealWorker) -> None:
    def encode(*adapters: wire.AdapterUse) -> torch.Tensor:
        request = wire.EncodeRequest(["a red fox"], 32, list(adapters))
        return served.submit(request)[0]["conditioning"]

    plain = encode()
    assert relative_error(encode(named("both.safetensors")), plain) > 1e-3
    off = wire.AdapterUse("both.safetensors", None, 1.0, 0.0)
    assert torch.equal(encode(off), plain)
    assert torch.equal(encode(named("styles/neon.safetensors")), plain)
    assert torch.equal(encode(), plain)


@pytest.mark.parametrize(
    ("adapter", "sentence"),
    [
        (named("none.safetensors"), "missing adapter: `none.safetensors`"),
        (
            wire.AdapterUse("both.safetensors", bytes(32)),
            "missing adapter: `both.safetensors` of the job",
        ),
        (named("foreign.safetensors"), "1 of the 1 tensors"),
        (named("both.safetensors", blocks=[1.0]), "weights for 1 blocks"),
    ],
)
def test_what_cannot_be_applied_is_named(
    served: RealWorker, adapter: wire.AdapterUse, sentence: str
) -> None:
    with pytest.raises(WorkerError, match=sentence):
        denoise(served, adapter)


def test_no_path_leaves_the_folders(served: RealWorker, folder: Path) -> None:
    for name in ("../both.safetensors", str(folder / "both.safetensors"), "styles"):
        with pytest.raises(WorkerError, match=r"not an adapter's name|missing adapter"):
            denoise(served, named(name))


def post(worker: RealWorker, content: bytes, **headers: str) -> tuple[int, str]:
    """Uploads a file; returns status and body."""
    request = urllib.request.Request(
        f"http://{worker.address}/adapters", content, headers, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_clients_upload_adapters_that_fit(tiny: Path, folder: Path, tmp_path: Path) -> None:
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    log = tmp_path / "worker.log"
    options = {"device": "cpu", "lora_dir": folder, "lora_uploads": uploads, "token": "t" * 32}
    content = (folder / "both.safetensors").read_bytes()
    key = hashlib.sha256(content).hexdigest()
    with RealWorker(tiny / "diffusers", log, **options) as worker:
        allowed = {"Authorization": f"Bearer {'t' * 32}"}
        for _ in range(2):
            status, body = post(worker, content, **allowed)
            assert status == 201
            wanted = {"name": f"{key}.safetensors", "hash": key, "bytes": len(content)}
            assert json.loads(body) == wanted
        names = {adapter.name for adapter in worker.client.adapters().result(60)}
        assert names == {"both.safetensors", "styles/neon.safetensors", f"{key}.safetensors"}
        # The same file under another name is the same adapter.
        found = denoise(worker, named(f"{key}.safetensors"))
        assert torch.equal(found, denoise(worker, named("both.safetensors")))
        status, body = post(worker, (folder / "foreign.safetensors").read_bytes(), **allowed)
        assert status == 422 and "1 of the 1 tensors" in body and "uploads" not in body
        assert post(worker, b"x" * 100, **allowed)[0] == 422
        assert post(worker, content)[0] == 401
        assert post(worker, content, Origin="http://evil.example", **allowed)[0] == 403
        assert sorted(path.name for path in uploads.iterdir()) == [f"{key}.safetensors"]


def test_nothing_is_uploaded_unless_the_operator_wants_it(served: RealWorker) -> None:
    status, body = post(served, b"x")
    assert status == 403 and "--lora-uploads" in body


def test_a_folder_that_is_none_is_refused(tiny: Path, tmp_path: Path) -> None:
    worker = RealWorker(tiny / "diffusers", tmp_path / "log", lora_dir=tmp_path / "none")
    with pytest.raises(AssertionError, match="which is no folder"), worker:
        pass


def test_comfyuis_folder_is_found(tiny: Path, folder: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    for part in (tiny / "comfyui" / "models").iterdir():
        (models / part.name).symlink_to(part)
    (models / "loras").symlink_to(folder)
    tokenizer = tiny / "diffusers" / "tokenizer"
    with RealWorker(models, tmp_path / "log", device="cpu", tokenizer=tokenizer) as worker:
        names = [adapter.name for adapter in worker.client.adapters().result(60)]
        assert names == ["both.safetensors", "styles/neon.safetensors"]
