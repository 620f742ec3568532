#!/usr/bin/env python3
"""Measures what adapters cost on a GPU: steps with and without them, a change of stacks, memory.

    adapters.py OUT.json --worker PATH/TO/ovis-worker [--folder DIR] [--modes bf16 fp8]
        [--size 1024] [--steps 20] [--switches 100] [--no-peer] [--small]

Full-size random weights (`full_size.py`), with random adapters on every linear layer of the
transformer. For each precision, one after the other in one worker: steps without an adapter, with
one of rank 16, with three of rank 32, and without one again, whose latents must equal the first in
every bit; the first step after a change to a stack that was never used; the GPU's memory during
switches among ten adapters. Then diffusers in bf16 with the adapter of rank 16 by peft, not merged.
`--small` tests the script on a CPU; its figures are meaningless.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[1]), str(HERE.parents[2])]

os.environ.setdefault("HF_HUB_OFFLINE", "1")

CFG = 5.0
SEED = 42
TEXT_TOKENS = 256
SINGLE = "rank-16.safetensors"
STACK = [f"rank-32-{number}.safetensors" for number in range(3)]
SWITCHED = [f"switched-{number}.safetensors" for number in range(10)]


def write_weights(args: argparse.Namespace) -> dict:
    """Writes the model and the adapters, unless an earlier run has."""
    from accelerate import init_empty_weights
    from diffusers import OvisImageTransformer2DModel
    from safetensors.torch import save_file

    from adapter_files import linear_shapes
    from gpu import full_size

    if not (args.folder / "model_index.json").exists():
        full_size.write(args.folder, small=args.small)
    folder = args.folder / "loras"
    folder.mkdir(exist_ok=True)
    with init_empty_weights():
        config = OvisImageTransformer2DModel.load_config(args.folder / "transformer")
        shapes = linear_shapes(OvisImageTransformer2DModel.from_config(config))
    ranks = {SINGLE: 16} | dict.fromkeys(STACK, 32) | dict.fromkeys(SWITCHED, 16)
    generator = torch.Generator(args.device)
    for seed, (name, rank) in enumerate(ranks.items()):
        generator.manual_seed(seed)
        tensors = {}
        for module, (rows, columns) in shapes.items():
            # The change of a layer's output has a twentieth of the output's size.
            for key, shape, size in (
                ("A", (rank, columns), columns),
                ("B", (rows, rank), 400 * rank),
            ):
                drawn = torch.randn(shape, generator=generator, device=args.device) / size**0.5
                tensors[f"transformer.{module}.lora_{key}.weight"] = drawn.bfloat16().cpu()
        save_file(tensors, folder / name)
    return {"layers": len(shapes), "bytes": (folder / SINGLE).stat().st_size}


def conditioning(args: argparse.Namespace) -> list[torch.Tensor]:
    width = json.loads((args.folder / "transformer/config.json").read_text())["joint_attention_dim"]
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(1, TEXT_TOKENS, width, generator=generator) for _ in range(2)]


def memory_used() -> float:
    """MiB of the GPU's memory, by nvidia-smi."""
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "-i=0"]
    return float(subprocess.run(command, capture_output=True, text=True).stdout)


def run_worker(args: argparse.Namespace) -> dict:
    """Measures the worker in one precision."""
    import real_worker
    from comfy_node import wire

    os.environ["OVIS_WORKER_TEST_BIN"] = str(args.worker)
    real_worker.START_SECONDS = 300
    prompts = conditioning(args)
    latent = torch.zeros(1, 16, args.size // 8, args.size // 8)
    small = torch.zeros(1, 16, 32, 32)

    def uses(names: list[str]) -> list[wire.AdapterUse]:
        return [wire.AdapterUse(name, None, 0.8, 0.8) for name in names]

    def drawn(
        names: list[str], steps: int, at: torch.Tensor = latent
    ) -> tuple[torch.Tensor, float]:
        """Latents, and the seconds of a step by the worker's clock."""
        before = worker.metric("step_seconds_total")
        made = worker.denoise(at, *prompts, seed=SEED, steps=steps, cfg=CFG, adapters=uses(names))
        return made, (worker.metric("step_seconds_total") - before) / steps

    def timed(names: list[str]) -> float:
        begun = time.monotonic()
        drawn(names, 1, small)
        return time.monotonic() - begun

    with real_worker.RealWorker(
        args.folder,
        args.folder / "worker.log",
        device=args.device,
        precision=args.mode,
        lora_dir=args.folder / "loras",
    ) as worker:
        worker.client.adapters().result(300)  # The files are read and hashed.
        first, _ = drawn([], args.steps)
        stacks = {"none": [], "one of rank 16": [SINGLE], "three of rank 32": STACK}
        changes = {}
        seconds: dict[str, list[float]] = {name: [] for name in stacks}
        for name, stack in stacks.items():
            if stack:
                unused, used = timed(stack), timed(stack)
                changes[name] = round(max(unused - used, 0.0), 4)
            drawn(stack, 2)
        # In turn, so that a card that slows down with heat slows them all.
        for _ in range(args.repeats):
            for name, stack in stacks.items():
                seconds[name].append(drawn(stack, args.steps)[1])
        last, _ = drawn([], args.steps)
        medians = {name: statistics.median(found) for name, found in seconds.items()}
        memory, switches = [], []
        for number in range(args.switches):
            begun = time.monotonic()
            drawn([SWITCHED[number % len(SWITCHED)]], 1, small)
            switches.append(time.monotonic() - begun)
            if not args.small and number % 10 == 9:
                memory.append(memory_used())
        plain = statistics.median(timed([]) for _ in range(5))
    return {
        "step seconds": medians,
        "ratios": {name: round(found / medians["none"], 4) for name, found in medians.items()},
        "equal after removal": bool(torch.equal(first, last)),
        "seconds that a new stack costs": changes,
        "seconds of a job with another of ten": {
            "first round": round(statistics.median(switches[: len(SWITCHED)]) - plain, 4),
            "later rounds": round(statistics.median(switches[len(SWITCHED) :]) - plain, 4),
        },
        "MiB after each ten switches": memory,
    }


def run_diffusers(args: argparse.Namespace) -> dict:
    """Measures diffusers in bf16 with the adapter of rank 16, and without one."""
    from diffusers import OvisImagePipeline

    dtype = torch.bfloat16
    pipeline = OvisImagePipeline.from_pretrained(args.folder, dtype=dtype).to(args.device)
    pipeline.set_progress_bar_config(disable=True)
    prompts = [prompt.to(args.device, dtype) for prompt in conditioning(args)]
    shape = (1, 16, args.size // 8, args.size // 8)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(SEED))
    start = pipeline._pack_latents(noise, *shape).to(args.device, dtype)

    def step() -> float:
        begun = time.monotonic()
        pipeline(
            negative_prompt=None, prompt_embeds=prompts[0], negative_prompt_embeds=prompts[1],
            latents=start, height=args.size, width=args.size,
            num_inference_steps=args.steps, guidance_scale=CFG, output_type="latent",
        )  # fmt: skip
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return (time.monotonic() - begun) / args.steps

    def median() -> float:
        step()
        return round(statistics.median(step() for _ in range(args.repeats)), 4)

    figures = {"none": median()}
    pipeline.transformer.load_lora_adapter(
        args.folder / "loras" / SINGLE, prefix="transformer", adapter_name="one"
    )
    pipeline.transformer.set_adapters(["one"], [0.8])
    figures["one of rank 16"] = median()
    return {"step seconds": figures}


PHASES = {"weights": write_weights, "worker": run_worker, "diffusers": run_diffusers}


def phase(name: str, *extra: str) -> dict:
    """Runs a phase in a process of its own, so that it releases its memory."""
    command = [sys.executable, str(HERE), *sys.argv[1:], "--phase", name, *extra]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        return {"failed": done.stdout[-2000:] or f"status {done.returncode}"}
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, metavar="OUT.json")
    parser.add_argument("--worker", type=Path, required=True, help="the build of ovis-worker")
    parser.add_argument("--folder", type=Path, help="for the weights; kept for the next run")
    parser.add_argument("--modes", nargs="+", default=["bf16", "fp8"], help="precisions")
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--switches", type=int, default=100)
    parser.add_argument("--no-peer", action="store_true", help="leave diffusers out")
    parser.add_argument("--small", action="store_true", help="use a small model on the CPU")
    parser.add_argument("--phase", choices=PHASES, help=argparse.SUPPRESS)
    parser.add_argument("--mode", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.worker = args.worker.resolve()
    args.device = "cpu" if args.small else "cuda"
    args.folder = args.folder or Path(f"/tmp/ovis-smooth-{'small' if args.small else 'full'}")
    if args.phase:
        print(json.dumps(PHASES[args.phase](args)))
        return 0
    report: dict = {"adapter": phase("weights")}
    plan = [(f"worker {mode}", ("worker", "--mode", mode)) for mode in args.modes]
    plan += [] if args.no_peer else [("diffusers bf16", ("diffusers",))]
    for name, command in plan:
        report[name] = phase(*command)
        print(name, json.dumps(report[name]), flush=True)
        args.out.write_text(json.dumps(report, indent=1) + "\n")
    peer = report.get("diffusers bf16", {}).get("step seconds", {}).get("one of rank 16")
    ours = [report[name].get("step seconds", {}) for name, _ in plan]
    if peer and ours[0]:
        report["worker / diffusers with the adapter"] = {
            name: round(found["one of rank 16"] / peer, 3)
            for (name, _), found in zip(plan, ours, strict=True)
            if found and name != "diffusers bf16"
        }
        print(json.dumps(report["worker / diffusers with the adapter"]))
    args.out.write_text(json.dumps(report, indent=1) + "\n")
    workers = [report[f"worker {mode}"] for mode in args.modes]
    return not all(found.get("equal after removal") for found in workers)


if __name__ == "__main__":
    sys.exit(main())
