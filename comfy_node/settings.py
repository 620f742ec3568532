"""What a worker's label means: address, secret, and the binary to start.

A workflow names a worker by a label, so that it can be shared. What the label
means is the user's own: ``ovis_worker.json`` in ComfyUI's user directory,

    {"workers": {"local": {"url": "ws://127.0.0.1:7867", "token": "...",
                           "binary": "...", "model": "...", "args": ["--device", "cuda"]}}}

and, for the label ``local``, environment variables that override it:
``OVIS_WORKER_URL``, ``OVIS_WORKER_TOKEN``, ``OVIS_WORKER_BIN``,
``OVIS_WORKER_MODEL``.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from .errors import WorkerError
from .texts import say

DEFAULT_LABEL = "local"
DEFAULT_URL = "ws://127.0.0.1:7867/ws"
SOCKET_PATH = "/ws"
SETTINGS_FILE = "ovis_worker.json"
PACK_ROOT = Path(__file__).resolve().parent.parent

ENVIRONMENT = {
    "url": "OVIS_WORKER_URL",
    "token": "OVIS_WORKER_TOKEN",
    "binary": "OVIS_WORKER_BIN",
    "model": "OVIS_WORKER_MODEL",
}
"""What overrides the settings of the label `local`."""

_SCHEMES = {"ws": "ws", "http": "ws", "wss": "wss", "https": "wss"}
_TEXTS = ("url", "token", "binary", "model")


@dataclass(frozen=True)
class WorkerConfig:
    """One worker: where it listens and, if it may be started, how."""

    label: str = DEFAULT_LABEL
    url: str = DEFAULT_URL
    token: str | None = field(default=None, repr=False)
    binary: str | None = None
    model: str | None = None
    args: tuple[str, ...] = ()
    log: str | None = None

    @property
    def address(self) -> str:
        """``host:port``, for sentences and for ``--listen``."""
        return urlsplit(self.url).netloc

    @property
    def is_on_this_machine(self) -> bool:
        """Whether the address is a loopback one, where a worker may be started."""
        return urlsplit(self.url).hostname in ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Places:
    """The folders of the ComfyUI that the nodes run in; ``None`` outside one."""

    user: Path | None = None
    models: Path | None = None
    tokenizer: Path | None = None
    """The Qwen tokenizer in ComfyUI's own source."""


def resolve(label: str, places: Places, environ: Mapping[str, str] = os.environ) -> WorkerConfig:
    """What ``label`` means here; raises :class:`WorkerError` when it means nothing."""
    label = label.strip() or DEFAULT_LABEL
    entry = _from_file(label, places.user)
    if label == DEFAULT_LABEL:
        entry = dict(entry or {})
        for key, name in ENVIRONMENT.items():
            if environ.get(name):
                entry[key] = environ[name]
    if entry is None:
        where = places.user / SETTINGS_FILE if places.user else SETTINGS_FILE
        raise WorkerError(
            say(
                "This workflow runs on a worker called `{label}`, which is not set up here.",
                label=label,
            ),
            say(
                'Choose `{default}`, or describe it in {path}: {{"workers": {{"{label}": '
                '{{"url": "ws://HOST:7867", "token": "..."}}}}}}',
                default=DEFAULT_LABEL,
                path=where,
                label=label,
            ),
        )
    # ComfyUI's own models folder is one of the layouts the worker recognises.
    model = entry.get("model") or (str(places.models) if places.models else None)
    args = entry.get("args", [])
    names_tokenizer = any(arg.partition("=")[0] == "--tokenizer" for arg in args)
    if places.models and model == str(places.models) and not names_tokenizer:
        args = [*args, *_tokenizer_args(places)]
    return WorkerConfig(
        label=label,
        url=normal_url(entry.get("url") or DEFAULT_URL),
        token=entry.get("token"),
        binary=entry.get("binary") or known_binary(environ),
        model=model,
        args=tuple(args),
        log=str(places.user / f"ovis_worker_{_file_safe(label)}.log") if places.user else None,
    )


def labels(places: Places) -> list[str]:
    """Every worker that is described here, `local` first; it needs no description."""
    try:
        described = entries(places.user)
    except WorkerError:
        described = {}  # said when a worker is used
    return [DEFAULT_LABEL, *sorted(label for label in described if label != DEFAULT_LABEL)]


def overridden(label: str, environ: Mapping[str, str] = os.environ) -> list[str]:
    """Which of the worker's settings the environment decides."""
    if label != DEFAULT_LABEL:
        return []
    return [key for key, name in ENVIRONMENT.items() if environ.get(name)]


def normal_url(url: str) -> str:
    """``host:port``, ``http://…`` or ``ws://…`` as the websocket's URL."""
    text = url.strip()
    parts = urlsplit(text if "://" in text else f"ws://{text}")
    scheme = _SCHEMES.get(parts.scheme)
    try:
        usable = scheme is not None and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise WorkerError(
            say("`{url}` is not a worker's address.", url=url),
            say("Write it as ws://HOST:PORT or wss://HOST:PORT."),
        )
    return f"{scheme}://{parts.netloc}{parts.path.rstrip('/') or SOCKET_PATH}"


def known_binary(environ: Mapping[str, str] = os.environ) -> str | None:
    """A worker binary that needs no setting: built in this clone, or on PATH."""
    suffix = ".exe" if os.name == "nt" else ""
    built = PACK_ROOT / "target" / "release" / f"ovis-worker{suffix}"
    if built.is_file():
        return str(built)
    return shutil.which("ovis-worker", path=environ.get("PATH"))


def _tokenizer_args(places: Places) -> list[str]:
    """Names ComfyUI's own tokenizer where the models folder has none.

    The worker looks for it beside the folder too, but with ``--base-directory``,
    or where the folder is a link, ComfyUI's source is somewhere else.
    """
    if places.tokenizer is None or not places.tokenizer.is_dir():
        return []
    has_one = any(
        next(places.models.glob(f"{folder}/**/{name}"), None)
        for folder in ("text_encoders", "clip", "tokenizers", "tokenizer")
        for name in ("tokenizer.json", "vocab.json")
    )
    return [] if has_one else ["--tokenizer", str(places.tokenizer)]


def entries(user: Path | None) -> dict[str, object]:
    """What the settings file says, by label; raises :class:`WorkerError` when it is unreadable."""
    path = user / SETTINGS_FILE if user else None
    if path is None or not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")).get("workers", {}))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise WorkerError(
            say("The worker settings in {path} cannot be read: {why}.", path=path, why=error)
        ) from error


def _from_file(label: str, user: Path | None) -> dict | None:
    entry = entries(user).get(label)
    if entry is None:
        return None
    texts_are_texts = isinstance(entry, dict) and all(
        entry.get(key) is None or isinstance(entry[key], str) for key in _TEXTS
    )
    if not texts_are_texts or not isinstance(entry.get("args", []), list):
        raise WorkerError(
            say(
                "The worker `{label}` in {path} is not understood.",
                label=label,
                path=user / SETTINGS_FILE,
            ),
            say(
                'It is {{"url": TEXT, "token": TEXT, "binary": TEXT, "model": TEXT, "args": '
                "[TEXT]}}, each of them optional."
            ),
        )
    return {**entry, "args": [str(arg) for arg in entry.get("args", [])]}


def _file_safe(label: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in label)
