#!/usr/bin/env python3
"""Measures images within budgets of GPU memory: time, and the peak that nvidia-smi sees.

    budget.py OUT.json --worker PATH/TO/ovis-worker [--steps 50] [--links 0 12] [--only bf16 fp8]

Each row is `bench` with full-size random weights in a process of its own, beside a run of the same
precision without a budget. `--links 12` repeats the rows with copies limited to 12 GB/s, as in an
older desktop. Before them, the demo model draws one picture without a budget, and one with the
smallest budget there is a plan for, in each precision and with the adapter that ships with it;
their latents must be equal in every bit. Takes about 6 minutes on an H100 with both links.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "worker" / "demo" / "model"
ADAPTER = DEMO / "loras" / "evening.safetensors"

CARDS = {24: 24564, 16: 16376, 12: 12282, 8: 8188, 6: 6144}
"""MiB that cards of so many GB report."""

ROWS = {
    "bf16": {24: (1.00, 1.00), 16: (1.10, 1.02), 12: (1.35, 1.10), 8: (2.0, 1.35)},
    "fp8": {12: (1.05, 1.00), 8: (1.5, 1.15)},
    "q4_k": {8: (1.5, 1.1), 6: (None, 1.3)},
}
"""For each precision and card: the most that an image may take of the time without a budget, and
what is aimed at. `q4_k` is compared with bf16."""

NOISE = 0.01
"""Two equal runs differ by this part of their time."""


def run(worker: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(worker), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def measure(worker: Path, precision: str, steps: int, link: float) -> dict:
    """The table of a precision, as `bench --vram` gives it."""
    arguments = ["--random-weights", "ovis-image-7b", "--precision", precision]
    arguments += ["--steps", steps, "--repeats", 1, "--warmup", 0, "--json"]
    arguments += ["--vram", ",".join(f"{CARDS[card]}MiB" for card in ROWS[precision])]
    if link:
        arguments += ["--link", f"{link:g}G"]
    begun = time.monotonic()
    result = run(worker, "bench", *arguments)
    if result.returncode:
        return {"error": result.stderr.strip().splitlines()[-3:]}
    return {**json.loads(result.stdout), "seconds": round(time.monotonic() - begun, 1)}


def judge(row: dict, card: int, bounds: tuple, unlimited: float) -> dict:
    """A row of the report. `unlimited` is the time that the issue compares with."""
    must, aim = bounds
    figures = {
        "card": card,
        "budget": row["budget"],
        "image_seconds": row["image_seconds"],
        "step_seconds": row["step_seconds"],
        "peak_bytes": row["peak_bytes"],
        "is_peak_of_driver": row["is_peak_of_driver"],
        "refusal": row["refusal"],
        "plan": (row["report"] or {}).get("memory"),
        "pool": (row["report"] or {}).get("pool"),
        "must": must,
        "aim": aim,
    }
    if row["refusal"] is None:
        ratio = row["image_seconds"] / unlimited
        figures["ratio"] = ratio
        figures["meets_must"] = must is None or ratio <= must + NOISE
        figures["meets_aim"] = ratio <= aim + NOISE
        figures["within_budget"] = row["peak_bytes"] <= row["budget"]
    return figures


def table(worker: Path, steps: int, link: float, precisions: list[str]) -> list[dict]:
    """All rows with one link; 0 is the machine's own."""
    rows, bf16 = [], None
    for precision in precisions:
        measured = measure(worker, precision, steps, link)
        if "error" in measured:
            rows.append({"precision": precision, **measured})
            continue
        first, *others = measured["rows"]
        own = first["image_seconds"]
        bf16 = own if precision == "bf16" else bf16
        unlimited = bf16 if precision == "q4_k" and bf16 else own
        rows.append(
            {
                "precision": precision,
                "image_seconds": own,
                "step_seconds": first["step_seconds"],
                "peak_bytes": first["peak_bytes"],
                "cards": [
                    judge(row, card, bounds, unlimited)
                    for row, (card, bounds) in zip(others, ROWS[precision].items(), strict=True)
                ],
                "seconds": measured["seconds"],
            }
        )
        print(json.dumps(rows[-1])[:400], flush=True)
    return rows


def parity(worker: Path, precision: str, adapter: bool) -> dict:
    """Whether the demo model's latents with the smallest budget are those without one."""
    planned = run(
        worker,
        *("inspect", "--model", DEMO, "--plan", "--json", "--precision", precision),
        *("--size", "512x512", "--vram", "1MiB"),
    )
    refusal = json.loads(planned.stdout)["plans"][0]["refusal"]
    least = refusal["hint"].split("--vram ")[1].split()[0]
    found = {"least_budget": least}
    with tempfile.TemporaryDirectory() as folder:
        latents = []
        for name, budget in (("whole", []), ("streamed", ["--vram", least])):
            out = Path(folder) / f"{name}.safetensors"
            result = run(
                worker,
                *("generate", "--model", DEMO, "--device", "cuda", "--precision", precision),
                *("--prompt", "A poster that says HELLO", "--width", 512, "--height", 512),
                *("--steps", 8, "--out", Path(folder) / f"{name}.png", "--latents-out", out),
                *(["--lora", ADAPTER] if adapter else []),
                *budget,
            )
            if result.returncode:
                return {**found, "error": result.stderr.strip().splitlines()[-2:]}
            latents.append(out.read_bytes())
    return {**found, "are_equal": latents[0] == latents[1]}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, metavar="OUT.json")
    parser.add_argument("--worker", type=Path, required=True, help="the build of ovis-worker")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--links", type=float, nargs="+", default=[0, 12], metavar="GB/S")
    parser.add_argument("--only", nargs="+", default=list(ROWS), choices=list(ROWS))
    args = parser.parse_args()
    worker = args.worker.resolve()
    combinations = [("bf16", False), ("bf16", True), ("fp8", True), ("q4_k", True)]
    equal = {
        f"{precision}{' with an adapter' if adapter else ''}": parity(worker, precision, adapter)
        for precision, adapter in combinations
    }
    report = {"steps": args.steps, "parity": equal, "links": {}}
    can_limit = "--link" in run(worker, "bench", "--help").stdout
    for link in args.links:
        name = f"{link:g} GB/s" if link else "own"
        if link and not can_limit:
            report["links"][name] = "this build does not limit copies"
            continue
        report["links"][name] = table(worker, args.steps, link, args.only)
        args.out.write_text(json.dumps(report, indent=1))
    args.out.write_text(json.dumps(report, indent=1))
    cards = [
        card
        for rows in report["links"].values()
        if isinstance(rows, list)
        for row in rows
        for card in row.get("cards", [{"refusal": "no row"}])
    ]
    own = report["links"].get("own", [])
    missed = [
        f"{row['precision']} in {card['card']} GB"
        for row in own
        for card in row.get("cards", [])
        if not card.get("meets_must")
    ]
    over = sum(not card.get("within_budget", True) for card in cards)
    print(f"rows that miss what they must: {missed or 'none'}; above their budget: {over}")
    print(f"parity: {report['parity']}")
    return bool(missed or over or not all(found.get("are_equal") for found in equal.values()))


if __name__ == "__main__":
    sys.exit(main())
