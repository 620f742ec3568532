#!/usr/bin/env python3
"""Compares the speed, memory and accuracy of a GPU build of the worker with diffusers: same
full-size random weights, same noise, same GPU, one after the other.

The weights make neighbouring steps similar (`full_size.write`), so that a step cache works as it
does with a trained model.

    against_diffusers.py --worker PATH/TO/ovis-worker [--folder DIR] [--compiled]
        [--modes bf16 fp8 fp8+fast] [--size 1024] [--steps 50] [--error-steps 8]
        [--repeats 3] [--small] [--json FILE]

Prints seconds and memory of both, their ratio, and the error of each against diffusers in
float32. The worker runs in each of the modes (a precision, and a step cache), diffusers in bf16.
Requires a GPU with 80 GB, for the float32 run, and 20 GB of disk in `--folder`. Each run has a
process of its own, so that it releases its memory. `--small` tests the script on a CPU, with
`--modes f32 f32+fast --size 128 --steps 10`; its figures are meaningless.

Two figures of the worker: "transport" is the part of an image's time (encoding a prompt, denoising,
decoding) during which none of the jobs is on the device, by the worker's clock; "overhead" is the
part outside the encode, the steps and the decode.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parents[2])]
os.environ.setdefault("HF_HUB_OFFLINE", "1")

PROMPT = 'a poster with the text "HELLO" in blue letters, the quick brown fox jumps over it'
SEED = 42
CFG = 5.0
PREVIEW_SIDE = 512
WEIGHTS = "random, smooth in time"


def log(text: str) -> None:
    """Prints a line with the time."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


class MemoryWatch:
    """Records the peak memory use of the GPU in GiB while the context is open, by nvidia-smi."""

    def __enter__(self) -> MemoryWatch:
        self.most = 0.0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        if shutil.which("nvidia-smi") is None:
            return
        command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "-i=0"]
        while not self._end.wait(0.2):
            used = subprocess.run(command, capture_output=True, text=True).stdout
            self.most = max(self.most, float(used.strip() or 0) / 1024)


def median(values: list[float]) -> float:
    return round(statistics.median(values), 4)


def write_weights(args: argparse.Namespace) -> dict:
    """Writes the random weights, unless an earlier run has."""
    from gpu import full_size

    if not (args.folder / "model_index.json").exists():
        full_size.write(args.folder, small=args.small)
    return {}


def run_worker(args: argparse.Namespace) -> dict:
    """Measures the worker through its websocket, with the node pack's client."""
    import torch

    import real_worker
    from comfy_node import wire

    os.environ["OVIS_WORKER_TEST_BIN"] = str(args.worker)
    real_worker.START_SECONDS = 300
    latent = torch.zeros(1, 16, args.size // 8, args.size // 8)
    precision, _, cache = args.mode.partition("+")
    caching = wire.StepCaching[(cache or "off").upper()]
    begun = time.monotonic()
    worker = real_worker.RealWorker(
        args.folder, args.folder / "worker.log", device=args.device, precision=precision
    )
    with MemoryWatch() as memory, worker:
        ready = time.monotonic() - begun
        kept = {"positive": worker.encode([PROMPT]), "negative": worker.encode([""])}
        prompts = (kept["positive"], kept["negative"])
        stamps = _Stamps()
        denoise = {"seed": SEED, "cfg": CFG, "events": stamps, "cache": caching}
        rounds = []
        for _ in range(args.repeats + 1):
            rounds.append(_Round.measure(worker, latent, prompts, args.steps, denoise))
        kept["latents"] = worker.denoise(latent, *prompts, steps=args.error_steps, **denoise)
        kept["one step"] = worker.denoise(latent, prompts[0], seed=SEED)
        preview = wire.PreviewRequest(wire.PreviewKind.LINEAR, PREVIEW_SIDE)
        begun = time.monotonic()
        worker.denoise(latent, *prompts, steps=args.steps, **denoise, preview=preview)
        previewed = time.monotonic() - begun
    torch.save(kept, args.folder / f"worker {args.mode}.pt")
    return {
        "start to ready": round(ready, 2),
        **figures_of([one.seconds for one in rounds], args.steps),
        **_Round.figures(rounds[1:]),
        "step by its events": median(stamps.gaps),
        "denoise with a preview a step": round(previewed, 3),
        "peak GiB": round(memory.most, 2),
    }


@dataclass
class _Round:
    """The times of one image by the worker. Lists hold its encode, denoise and decode job."""

    seconds: list[float]
    running: list[float]
    """The part of `seconds` during which the job was on the device, by the worker's clock."""
    step_seconds: float
    """The part of the denoise job's time spent in steps."""
    forwards: int
    """Number of the transformer's forward passes."""
    answered: int
    """The part of `forwards` that the step cache answered."""

    @classmethod
    def measure(cls, worker, latent, prompts, steps: int, denoise: dict) -> _Round:
        names = ("step_seconds_total", "forwards_total", "forwards_answered_total")
        before = [worker.metric(name) for name in names]
        marks = [(time.monotonic(), worker.seconds_running)]
        worker.encode([PROMPT])
        marks.append((time.monotonic(), worker.seconds_running))
        made = worker.denoise(latent, *prompts, steps=steps, **denoise)
        marks.append((time.monotonic(), worker.seconds_running))
        worker.decode(made)
        marks.append((time.monotonic(), worker.seconds_running))
        spent = [
            [b - a for a, b in itertools.pairwise(clock)] for clock in zip(*marks, strict=True)
        ]
        counts = [worker.metric(name) - old for name, old in zip(names, before, strict=True)]
        return cls(*spent, counts[0], int(counts[1]), int(counts[2]))

    @staticmethod
    def figures(rounds: list[_Round]) -> dict:
        encode, denoise, decode = range(3)
        return {
            "transport": median([sum(one.seconds) - sum(one.running) for one in rounds]),
            "overhead": median(
                [
                    sum(one.seconds)
                    - (one.running[encode] + one.step_seconds + one.running[decode])
                    for one in rounds
                ]
            ),
            "beside the steps of a denoise job": median(
                [one.running[denoise] - one.step_seconds for one in rounds]
            ),
            "forwards": rounds[-1].forwards,
            "answered by the cache": rounds[-1].answered,
        }


class _Stamps(list):
    """Receives a job's events and records the seconds between its steps."""

    def __init__(self) -> None:
        super().__init__()
        self.gaps: list[float] = []
        self._last = None

    def append(self, event: object) -> None:
        now = time.monotonic()
        step = getattr(event, "step", 0)
        if step > 1 and self._last is not None:
            self.gaps.append(now - self._last)
        self._last = now if step else None


def figures_of(rounds: list[list[float]], steps: int) -> dict:
    """Medians over rounds of (encode, denoise, decode) seconds, without the first, a warm-up."""
    images = [denoise + decode for _, denoise, decode in rounds]
    encodes, denoises, decodes = zip(*rounds[1:], strict=True)
    return {
        "first image": round(images[0], 3),
        "image": median(images[1:]),
        "denoise": median(denoises),
        "step": round(median(denoises) / steps, 4),
        "decode": median(decodes),
        "text encode": median(encodes),
    }


def run_diffusers(args: argparse.Namespace) -> dict:
    """Measures diffusers in bf16, and keeps its latents from the same noise as the worker's."""
    import torch

    pipeline, start, conditioning = _pipeline(args, torch.bfloat16)
    if args.compiled:
        pipeline.transformer = torch.compile(pipeline.transformer, fullgraph=True)
    rounds = []
    with MemoryWatch() as memory:
        for _ in range(args.repeats + 1):
            marks = [_now()]
            pipeline._get_ovis_prompt_embeds([PROMPT], device=args.device)
            marks.append(_now())
            made = _run(pipeline, start, conditioning, args, args.steps)
            marks.append(_now())
            with torch.no_grad():
                pipeline.vae.decode(made.to(torch.bfloat16))[0].float().cpu()
            marks.append(_now())
            rounds.append([later - mark for mark, later in itertools.pairwise(marks)])
    if not args.compiled:
        _keep(pipeline, start, conditioning, args, "diffusers.pt")
    return {**figures_of(rounds, args.steps), "peak GiB": round(memory.most, 2)}


def run_reference(args: argparse.Namespace) -> dict:
    """Keeps the reference: diffusers in float32, without TF32, on the same weights and
    conditioning."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    pipeline, start, conditioning = _pipeline(args, torch.float32)
    _keep(pipeline, start, conditioning, args, "reference.pt")
    return {}


def _keep(pipeline, start, conditioning, args: argparse.Namespace, name: str) -> None:
    """Saves the conditioning and latents that `errors` compares."""
    import torch

    kept = {
        "positive": pipeline._get_ovis_prompt_embeds([PROMPT], device=args.device).float().cpu(),
        "negative": pipeline._get_ovis_prompt_embeds([""], device=args.device).float().cpu(),
        "latents": _run(pipeline, start, conditioning, args, args.error_steps).float().cpu(),
        "one step": _run(pipeline, start, conditioning, args, 1, cfg=1.0).float().cpu(),
    }
    torch.save(kept, args.folder / name)


def _now() -> float:
    """The time, after the GPU has finished its work."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.monotonic()


def _pipeline(args: argparse.Namespace, dtype):
    """The pipeline, the packed noise, and the conditioning that the worker computed."""
    import torch
    from diffusers import OvisImagePipeline

    pipeline = OvisImagePipeline.from_pretrained(args.folder, dtype=dtype).to(args.device)
    pipeline.set_progress_bar_config(disable=True)
    shape = (1, 16, args.size // 8, args.size // 8)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(SEED))
    kept = torch.load(args.folder / f"worker {args.modes[0]}.pt")
    conditioning = [kept[name].to(args.device, dtype) for name in ("positive", "negative")]
    return pipeline, pipeline._pack_latents(noise, *shape).to(args.device, dtype), conditioning


def _run(pipeline, start, conditioning, args: argparse.Namespace, steps: int, cfg: float = CFG):
    """Denoises. Returns raw VAE latents `[1, 16, H/8, W/8]`."""
    made = pipeline(
        negative_prompt=None,
        prompt_embeds=conditioning[0],
        negative_prompt_embeds=conditioning[1],
        latents=start,
        height=args.size,
        width=args.size,
        num_inference_steps=steps,
        guidance_scale=cfg,
        output_type="latent",
    ).images
    made = pipeline._unpack_latents(made, args.size, args.size, 8)
    config = pipeline.vae.config
    return made / config.scaling_factor + config.shift_factor


def errors(folder: Path, sides: list[str]) -> dict:
    """The relative error (of norms) of each run against the float32 run."""
    import torch

    wanted = torch.load(folder / "reference.pt")
    table = {}
    for side in sides:
        made = torch.load(folder / f"{side}.pt")
        table[side] = {
            name: float(f"{((made[name] - want).norm() / want.norm()).item():.4g}")
            for name, want in wanted.items()
        }
    return table


PHASES = {
    "weights": write_weights,
    "worker": run_worker,
    "diffusers": run_diffusers,
    "reference": run_reference,
}


def phase(name: str, args: argparse.Namespace, *extra: str) -> dict:
    """Runs a phase in a process of its own, and returns its figures."""
    log(f"{name} {' '.join(extra)}")
    command = [sys.executable, str(HERE), *sys.argv[1:], "--phase", name, *extra]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{name} failed:\n{done.stdout}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--worker", type=Path, required=True, help="the GPU build of ovis-worker")
    parser.add_argument("--folder", type=Path, help="for the weights; kept for the next run")
    parser.add_argument(
        "--modes",
        nargs="+",
        default=["bf16"],
        help="of the worker: a precision, with +safe or +fast for a step cache",
    )
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--error-steps", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--compiled", action="store_true", help="also measure compiled diffusers")
    parser.add_argument("--small", action="store_true", help="use a small model on the CPU")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--phase", choices=PHASES, help=argparse.SUPPRESS)
    parser.add_argument("--mode", help=argparse.SUPPRESS)
    parser.add_argument("--eager", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.device = "cpu" if args.small else "cuda"
    args.folder = args.folder or Path(f"/tmp/ovis-smooth-{'small' if args.small else 'full'}")
    if args.phase:
        args.compiled = args.compiled and not args.eager
        print(json.dumps(PHASES[args.phase](args)))
        return 0
    phase("weights", args)
    ours = {f"worker {mode}": phase("worker", args, "--mode", mode) for mode in args.modes}
    peers = {"diffusers": phase("diffusers", args, "--eager")}
    if args.compiled:
        peers["diffusers compiled"] = phase("diffusers", args)
    phase("reference", args)
    figures = {
        "weights": WEIGHTS,
        **ours,
        **peers,
        "error to float32": errors(args.folder, [*ours, "diffusers"]),
    }
    for (name, one), (peer, other) in itertools.product(ours.items(), peers.items()):
        figures[f"{name} / {peer}"] = round(one["image"] / other["image"], 3)
    print(json.dumps(figures, indent=2))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
