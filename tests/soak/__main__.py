"""The command line: `tests/soak/run NAME [options]`."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import tempfile
from pathlib import Path

from worker_binary import ROOT, binary

from . import chaos, load, restart, thousand
from .report import Report

DEMO_MODEL = ROOT / "worker" / "demo" / "model"
RUNS = {"chaos": chaos, "load": load, "thousand": thousand, "restart": restart}


def main() -> int:
    arguments = _parser().parse_args()
    # The node pack logs each lost connection, and there are hundreds.
    logging.basicConfig(level=logging.ERROR)
    worker = _worker(arguments.binary)
    run = RUNS[arguments.name]
    full = _parser().parse_args([arguments.name])
    is_full = all(getattr(arguments, name) == getattr(full, name) for name in run.SIZES)
    report = Report(arguments.name, run.TITLE, is_full)
    report.note("worker binary", f"{worker.parent.name} build", unit="")
    report.note("CPU cores", os.cpu_count())
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix=f"soak-{arguments.name}-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(f"logs and files: {folder}", flush=True)
    done = run.run(arguments, worker, folder, report)
    if asyncio.iscoroutine(done):
        asyncio.run(done)
    report.write()
    return 0 if report.has_passed else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tests/soak/run", description=__doc__)
    names = parser.add_subparsers(dest="name", required=True)
    for name, run in RUNS.items():
        one = names.add_parser(name, help=run.TITLE)
        one.add_argument("--binary", type=Path, help="worker (default: the newest build)")
        one.add_argument("--model", type=Path, default=DEMO_MODEL, help="default: the demo model")
        one.add_argument("--folder", type=Path, help="keeps logs and files of the run")
        run.add_arguments(one)
    return parser


def _worker(named: Path | None) -> Path:
    """The given binary, the release build if there is one, or the tests' binary."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    release = target / "release" / "ovis-worker"
    if named is None and "OVIS_WORKER_TEST_BIN" not in os.environ and release.is_file():
        named = release
    return (named or binary()).resolve()


if __name__ == "__main__":
    sys.exit(main())
