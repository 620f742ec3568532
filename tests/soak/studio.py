"""A process of the chaos run that stands for a ComfyUI: several clients of the node pack.

Each client has an identity folder of its own and makes its images two at a time. What has arrived
is written to the folder at once, as a ComfyUI shows an image as soon as it has it. A process that
was killed is started again with the same arguments: it finds its identities and what has arrived,
and runs everything else again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from comfy_node import wire
from comfy_node.settings.config import WorkerConfig
from comfy_node.texts import WorkerError
from comfy_node.wire import WireTensor
from comfy_node.worker.client import WorkerClient

from .images import STAGES, Image
from .measure import resident_bytes

AT_ONCE = 2
"""Images that one client makes at a time."""
JOB_SECONDS = 1800.0
JOURNAL = "journal.jsonl"


class Studio:
    """One client: its images, and the folder of its identity and of what has arrived."""

    def __init__(self, number: int, url: str, folder: Path, patience: float) -> None:
        self.number = number
        self._folder = folder_of(folder, number)
        self._folder.mkdir(parents=True, exist_ok=True)
        config = WorkerConfig(
            label=f"client {number}", url=url, folder=self._folder, patience=patience
        )
        self._client = WorkerClient(config)
        self._journal = (self._folder / JOURNAL).open("a")
        self._writing = threading.Lock()

    def make(self, count: int) -> None:
        """Makes the images that have not arrived yet."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(self._make, range(count)))

    def close(self) -> None:
        self._client.close()

    def _make(self, number: int) -> None:
        image = Image(self.number, number)

        def run(stage: str, request: object, tensors: list[WireTensor]) -> list[WireTensor]:
            path = self._folder / f"{number:03}.{stage}"
            if path.exists():
                return read_result(path)
            seen: set[bytes] = set()

            def on_event(event: object) -> None:
                job = getattr(event, "job", None)
                if job is not None and job not in seen:
                    seen.add(job)
                    self._note(event="seen", job=str(uuid.UUID(bytes=bytes(job))), file=path.name)

            result = self._client.submit(request, tensors, on_event).result(JOB_SECONDS)
            arrived = list(result.tensors.values())
            write_result(path, arrived)
            self._note(event="arrived", file=path.name)
            return arrived

        try:
            for _ in image.compute(run):
                pass
        except (WorkerError, TimeoutError) as error:
            self._note(event="failed", image=number, why=f"{type(error).__name__}: {error}")

    def _note(self, **fields: object) -> None:
        with self._writing:
            self._journal.write(json.dumps({"at": time.time(), **fields}) + "\n")
            self._journal.flush()


def folder_of(folder: Path, client: int) -> Path:
    """The folder of one client."""
    return folder / f"client-{client:02}"


def write_result(path: Path, tensors: list[WireTensor]) -> None:
    """Writes tensors so that the file is there either completely or not at all."""
    headers = [(one.header.name, int(one.header.dtype), one.header.shape) for one in tensors]
    partial = path.with_suffix(path.suffix + ".part")
    with partial.open("wb") as file:
        file.write(json.dumps(headers).encode() + b"\n")
        for one in tensors:
            file.write(one.data)
    os.replace(partial, path)


def read_result(path: Path) -> list[WireTensor]:
    """Reads what :func:`write_result` wrote."""
    with path.open("rb") as file:
        tensors = []
        for name, dtype, shape in json.loads(file.readline()):
            header = wire.TensorHeader(name, wire.DType(dtype), shape)
            tensors.append(WireTensor(header, file.read(wire.transfer.byte_length(header))))
        return tensors


def digests(folder: Path, clients: list[int], images: int) -> dict[str, str]:
    """The SHA-256 of every result that has arrived, by client and file."""
    found = {}
    for client in clients:
        for number in range(images):
            for stage in STAGES:
                path = folder_of(folder, client) / f"{number:03}.{stage}"
                if path.exists():
                    name = f"{path.parent.name}/{path.name}"
                    found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def journal(folder: Path, client: int) -> list[dict]:
    """What the processes of one client noted. A kill may have cut the last line of each."""
    notes = []
    path = folder_of(folder, client) / JOURNAL
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            notes.append(json.loads(line))
        except ValueError:
            continue
    return notes


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--clients", type=int, nargs="+", required=True)
    parser.add_argument("--images", type=int, required=True)
    parser.add_argument("--patience", type=float, default=600.0)
    given = parser.parse_args()
    before = resident_bytes(os.getpid())
    studios = [Studio(n, given.url, given.folder, given.patience) for n in given.clients]
    with ThreadPoolExecutor(len(studios)) as pool:
        list(pool.map(lambda one: one.make(given.images), studios))
    # The reader takes this line as the sign that all is done, and then waits for our end.
    memory = {"before": before, "after": resident_bytes(os.getpid())}
    print(json.dumps(memory), flush=True)
    # Acknowledgements may still be on their way; the run says when they need not wait longer.
    sys.stdin.read()
    for one in studios:
        one.close()


if __name__ == "__main__":
    main()
