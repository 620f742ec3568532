"""Looks up what a worker's label means: address, secrets, and the binary to start.

A workflow names a worker by a label, so that the workflow can be shared. What the label means is
each user's own setting, in the file ``ovis_worker.json`` in a folder that ComfyUI does not serve
(:mod:`.private_folder`):

    {"workers": {"local": {"url": "ws://127.0.0.1:7867", "token": "...",
                           "binary": "...", "model": "...", "args": ["--device", "cuda"],
                           "fingerprint": "...", "vram": "12GiB", "patience": 600,
                           "free": true}}}

For the label ``local``, the environment variables ``OVIS_WORKER_URL``, ``OVIS_WORKER_TOKEN``,
``OVIS_WORKER_BIN``, ``OVIS_WORKER_MODEL``, ``OVIS_WORKER_FINGERPRINT`` and ``OVIS_WORKER_VRAM``
override the file. A blank variable counts as unset. A ``--token`` among ``args`` is used as
``token``.
"""

from __future__ import annotations

import hashlib
import math
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from ..texts import WorkerError, printable, say
from . import weights
from .cleaning import clean_path, clean_text
from .config import (
    DEFAULT_LABEL,
    DEFAULT_PATIENCE,
    DEFAULT_URL,
    ENVIRONMENT,
    ComfyFolders,
    WorkerConfig,
)
from .file import SETTINGS_FILE, read_entries
from .installed import find_binary
from .secret import Secret

_TEXTS = ("url", "token", "binary", "model", "fingerprint", "vram")
_MAX_PATIENCE = 7 * 24 * 3600.0
"""The longest `patience` that is accepted, in seconds."""
_KEY = secrets.token_bytes(32)


def resolve(
    label: str, folders: ComfyFolders, environ: Mapping[str, str] = os.environ
) -> WorkerConfig:
    """The settings of ``label``.

    Raises :class:`WorkerError` if the label is unknown or its entry is invalid.
    """
    label = label.strip() or DEFAULT_LABEL
    entry = _from_file(label, folders.private)
    if label == DEFAULT_LABEL:
        entry = {**(entry or {}), **_from_environment(environ)}
    if entry is None:
        where = folders.private / SETTINGS_FILE if folders.private else SETTINGS_FILE
        raise WorkerError(
            say(
                "This workflow runs on a worker called `{label}`, which is not set up here.",
                label=printable(label, 60),
            ),
            say(
                'Choose `{default}`, or describe it in {path}: {{"workers": {{"{label}": '
                '{{"url": "ws://HOST:7867", "token": "..."}}}}}}',
                default=DEFAULT_LABEL,
                path=where,
                label=printable(label, 60),
            ),
        )
    # The worker recognises the layout of ComfyUI's models folder.
    chosen = clean_path(entry.get("model"))
    model = chosen or (str(folders.models) if folders.models else None)
    args = entry.get("args", [])
    named = {arg.partition("=")[0] for arg in args}
    if folders.models and model == str(folders.models) and "--tokenizer" not in named:
        args = [*args, *_tokenizer_args(folders)]
    looks_here = folders.models is not None and not chosen and "--transformer" not in named
    if looks_here:
        found = weights.elsewhere(folders.models, folders.weights)
        args = [*args, *(part for option in found for part in (option, str(found[option])))]
        if len(found) == len(weights.FILES):
            model = None  # which would be searched in vain
    if "--lora-dir" not in named:
        # Those in the models folder itself are found by the worker if it is the model.
        args = [*args, *(word for path in folders.loras for word in ("--lora-dir", str(path)))]
    vram = clean_text(entry.get("vram"))
    if vram and "--vram" not in named:
        args = [*args, "--vram", vram]
    if model and not chosen and "--or-demo" not in named:
        # Before weights are downloaded, the worker draws with its demo model.
        args = [*args, "--or-demo"]
    log = folders.private / f"ovis_worker_{_file_safe(label)}.log" if folders.private else None
    return WorkerConfig(
        label=label,
        url=clean_text(entry.get("url")) or DEFAULT_URL,
        token=Secret.of(clean_text(entry.get("token"))),
        binary=clean_path(entry.get("binary")) or find_binary(environ),
        model=model,
        args=tuple(args),
        log=str(log) if log else None,
        fingerprint=clean_text(entry.get("fingerprint")),
        patience=float(entry.get("patience", DEFAULT_PATIENCE)),
        free=entry.get("free"),
        missing=tuple(weights.missing(folders.weights)) if looks_here else (),
        folder=folders.private,
    )


def labels(folders: ComfyFolders) -> list[str]:
    """All configured labels, with `local` first, which needs no configuration."""
    try:
        described = read_entries(folders.private)
    except WorkerError:
        described = {}  # the error is reported when a worker is used
    return [DEFAULT_LABEL, *sorted({label.strip() for label in described} - {DEFAULT_LABEL, ""})]


def overridden(label: str, environ: Mapping[str, str] = os.environ) -> list[str]:
    """The settings of ``label`` that environment variables override."""
    return list(_from_environment(environ)) if label == DEFAULT_LABEL else []


def fingerprint(config: WorkerConfig) -> str:
    """A hash that changes with the settings.

    It is keyed with a random key of this process, so that it reveals nothing about the secrets.
    """
    token = config.token.reveal() if config.token else None
    login = config.endpoint.login.reveal() if config.endpoint.login else None
    whole = repr((config, token, login, config.endpoint.socket_url)).encode(
        "utf-8", "surrogatepass"
    )
    return hashlib.blake2b(whole, key=_KEY, digest_size=16).hexdigest()


def _from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The settings from environment variables, by setting."""
    values = {key: clean_text(environ.get(name)) for key, name in ENVIRONMENT.items()}
    return {key: value for key, value in values.items() if value}


def _tokenizer_args(folders: ComfyFolders) -> list[str]:
    """Arguments that name ComfyUI's tokenizer if the models folder contains none.

    The worker also looks beside the models folder. That fails with ``--base-directory``, or if the
    folder is a symbolic link, because ComfyUI's source is then somewhere else.
    """
    if folders.tokenizer is None or not folders.tokenizer.is_dir():
        return []
    has_one = any(
        next(folders.models.glob(f"{folder}/**/{name}"), None)
        for folder in ("text_encoders", "clip", "tokenizers", "tokenizer")
        for name in ("tokenizer.json", "vocab.json")
    )
    return [] if has_one else ["--tokenizer", str(folders.tokenizer)]


def _from_file(label: str, folder: Path | None) -> dict | None:
    entry = read_entries(folder).get(label)
    if entry is None:
        return None
    texts_are_texts = isinstance(entry, dict) and all(
        entry.get(key) is None or isinstance(entry[key], str) for key in _TEXTS
    )
    if not (
        texts_are_texts
        and isinstance(entry.get("args", []), list)
        and _is_patience(entry.get("patience", DEFAULT_PATIENCE))
        and isinstance(entry.get("free"), bool | None)
    ):
        raise WorkerError(
            say(
                "The entry of the worker `{label}` in {path} is invalid.",
                label=printable(label, 60),
                path=folder / SETTINGS_FILE,
            ),
            say(
                'The format is {{"url": TEXT, "token": TEXT, "binary": TEXT, "model": TEXT, '
                '"args": [TEXT], "fingerprint": TEXT, "vram": TEXT, "patience": SECONDS, '
                '"free": true or false}}; all fields are optional.'
            ),
        )
    return {**entry, "args": [str(arg) for arg in entry.get("args", [])]}


def _is_patience(value: object) -> bool:
    """Whether a value is a number of seconds that a job can wait."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and 0 <= value <= _MAX_PATIENCE


def _file_safe(label: str) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "_" for c in label)[:60]
