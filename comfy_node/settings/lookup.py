"""What a worker's label means: address, secret, and the binary to start.

A workflow names a worker by a label, so that it can be shared. What the label
means is the user's own: ``ovis_worker.json`` in a folder that ComfyUI serves to
nobody (:mod:`.private_folder`),

    {"workers": {"local": {"url": "ws://127.0.0.1:7867", "token": "...",
                           "binary": "...", "model": "...", "args": ["--device", "cuda"]}}}

and, for the label ``local``, environment variables that override it:
``OVIS_WORKER_URL``, ``OVIS_WORKER_TOKEN``, ``OVIS_WORKER_BIN``,
``OVIS_WORKER_MODEL``. A blank one counts as unset. A ``--token`` among ``args`` is taken as
``token``.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from ..texts import WorkerError, say, shown
from .cleaning import cleaned, cleaned_path
from .config import DEFAULT_LABEL, DEFAULT_URL, ENVIRONMENT, PACK_ROOT, Places, WorkerConfig
from .file import SETTINGS_FILE, entries
from .secret import Secret

_TEXTS = ("url", "token", "binary", "model")
_KEY = secrets.token_bytes(32)


def resolve(label: str, places: Places, environ: Mapping[str, str] = os.environ) -> WorkerConfig:
    """What ``label`` means here; raises :class:`WorkerError` when it means nothing."""
    label = label.strip() or DEFAULT_LABEL
    entry = _from_file(label, places.private)
    if label == DEFAULT_LABEL:
        entry = {**(entry or {}), **_from_environment(environ)}
    if entry is None:
        where = places.private / SETTINGS_FILE if places.private else SETTINGS_FILE
        raise WorkerError(
            say(
                "This workflow runs on a worker called `{label}`, which is not set up here.",
                label=shown(label, 60),
            ),
            say(
                'Choose `{default}`, or describe it in {path}: {{"workers": {{"{label}": '
                '{{"url": "ws://HOST:7867", "token": "..."}}}}}}',
                default=DEFAULT_LABEL,
                path=where,
                label=shown(label, 60),
            ),
        )
    # ComfyUI's own models folder is one of the layouts the worker recognises.
    model = cleaned_path(entry.get("model")) or (str(places.models) if places.models else None)
    args = entry.get("args", [])
    names_tokenizer = any(arg.partition("=")[0] == "--tokenizer" for arg in args)
    if places.models and model == str(places.models) and not names_tokenizer:
        args = [*args, *_tokenizer_args(places)]
    log = places.private / f"ovis_worker_{_file_safe(label)}.log" if places.private else None
    return WorkerConfig(
        label=label,
        url=cleaned(entry.get("url")) or DEFAULT_URL,
        token=Secret.of(cleaned(entry.get("token"))),
        binary=cleaned_path(entry.get("binary")) or known_binary(environ),
        model=model,
        args=tuple(args),
        log=str(log) if log else None,
    )


def labels(places: Places) -> list[str]:
    """Every worker that is described here, `local` first; it needs no description."""
    try:
        described = entries(places.private)
    except WorkerError:
        described = {}  # said when a worker is used
    return [DEFAULT_LABEL, *sorted({label.strip() for label in described} - {DEFAULT_LABEL, ""})]


def overridden(label: str, environ: Mapping[str, str] = os.environ) -> list[str]:
    """Which of the worker's settings the environment decides."""
    return list(_from_environment(environ)) if label == DEFAULT_LABEL else []


def fingerprint(config: WorkerConfig) -> str:
    """What changes with the settings, and tells nothing about them outside this process."""
    token = config.token.reveal() if config.token else None
    login = config.where.login.reveal() if config.where.login else None
    whole = repr((config, token, login, config.where.socket_url)).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(whole, key=_KEY, digest_size=16).hexdigest()


def known_binary(environ: Mapping[str, str] = os.environ) -> str | None:
    """A worker binary that needs no setting: built in this clone, or on PATH."""
    suffix = ".exe" if os.name == "nt" else ""
    built = PACK_ROOT / "target" / "release" / f"ovis-worker{suffix}"
    if built.is_file():
        return str(built)
    return shutil.which("ovis-worker", path=environ.get("PATH"))


def _from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The settings that variables give, by the settings' names."""
    values = {key: cleaned(environ.get(name)) for key, name in ENVIRONMENT.items()}
    return {key: value for key, value in values.items() if value}


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


def _from_file(label: str, folder: Path | None) -> dict | None:
    entry = entries(folder).get(label)
    if entry is None:
        return None
    texts_are_texts = isinstance(entry, dict) and all(
        entry.get(key) is None or isinstance(entry[key], str) for key in _TEXTS
    )
    if not texts_are_texts or not isinstance(entry.get("args", []), list):
        raise WorkerError(
            say(
                "The worker `{label}` in {path} is not understood.",
                label=shown(label, 60),
                path=folder / SETTINGS_FILE,
            ),
            say(
                'It is {{"url": TEXT, "token": TEXT, "binary": TEXT, "model": TEXT, "args": '
                "[TEXT]}}, each of them optional."
            ),
        )
    return {**entry, "args": [str(arg) for arg in entry.get("args", [])]}


def _file_safe(label: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in label)[:60]
