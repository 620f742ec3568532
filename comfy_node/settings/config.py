"""A worker's settings after parsing, and the folders of ComfyUI that they depend on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..texts import WorkerError, printable, say
from .address import Address, read_address
from .certificate import read_fingerprint
from .cleaning import without_token
from .secret import Secret

VERSION = "0.1.0"
"""The version of the node pack, which requires the same version of the worker."""
DEFAULT_LABEL = "local"
DEFAULT_URL = "ws://127.0.0.1:7867/ws"
DEFAULT_PATIENCE = 600.0
"""How long a job waits for a worker that is away or full, in seconds."""
PACK_ROOT = Path(__file__).resolve().parents[2]
"""The clone of this repository, where a worker may have been built."""

ENVIRONMENT = {
    "url": "OVIS_WORKER_URL",
    "token": "OVIS_WORKER_TOKEN",
    "binary": "OVIS_WORKER_BIN",
    "model": "OVIS_WORKER_MODEL",
    "fingerprint": "OVIS_WORKER_FINGERPRINT",
    "vram": "OVIS_WORKER_VRAM",
}
"""Environment variables that override the settings of the label `local`, by setting."""


@dataclass(frozen=True)
class WorkerConfig:
    """One worker: its address and, if the pack may start it, how.

    Login and query are removed from ``url``, and ``--token`` from ``args``, because both are
    displayed. Raises :class:`WorkerError` if ``url`` is not an address, if ``fingerprint`` is not
    one, or if there is a fingerprint and the address is not one for TLS.
    """

    label: str = DEFAULT_LABEL
    url: str = DEFAULT_URL
    token: Secret | str | None = field(default=None, repr=False)
    binary: str | None = None
    model: str | None = None
    args: tuple[str, ...] = ()
    log: str | None = None
    fingerprint: str | None = None
    """The SHA-256 fingerprint that the worker's certificate must have, as 64 digits; without one
    the system's authorities decide."""
    patience: float = DEFAULT_PATIENCE
    """How long a job waits for a worker that is away or full, in seconds."""
    free: bool | None = field(default=None, compare=False)
    """Whether ComfyUI's freeing of memory frees the worker's too; by default on this machine."""
    missing: tuple[str, ...] = field(default=(), compare=False)
    """Sentences on the files of weights that are in none of ComfyUI's folders, if the worker looks
    there."""
    folder: Path | None = None
    """Where this ComfyUI's identity is kept; without a folder, each client has its own."""
    endpoint: Address = field(init=False, repr=False)
    """The parsed address, with login and query for a proxy if there are any."""

    def __post_init__(self) -> None:
        endpoint = read_address(self.url)
        args, token = without_token(self.args)
        fingerprint = read_fingerprint(self.fingerprint) if self.fingerprint else None
        if fingerprint and endpoint.scheme != "wss":
            raise WorkerError(
                say(
                    "The worker `{label}` has a certificate's fingerprint, but its address {url} "
                    "does not use TLS.",
                    label=printable(self.label, 60),
                    url=endpoint.url,
                ),
                say(
                    "Write the address with wss:// instead of ws://, or remove the fingerprint.",
                ),
            )
        for name, value in (
            ("endpoint", endpoint),
            ("url", endpoint.url),
            ("args", args),
            ("fingerprint", fingerprint),
            ("token", Secret.of(self.token) or Secret.of(token)),
        ):
            object.__setattr__(self, name, value)

    @property
    def address(self) -> str:
        """``host:port``, for messages and for ``--listen``."""
        return self.endpoint.netloc

    @property
    def frees(self) -> bool:
        """Whether the worker unloads its idle models when ComfyUI unloads its own."""
        return self.is_on_this_machine if self.free is None else self.free

    @property
    def is_on_this_machine(self) -> bool:
        """Whether the address is a loopback one, so that the pack may start the worker."""
        return self.endpoint.is_loopback


@dataclass(frozen=True)
class ComfyFolders:
    """Folders of the ComfyUI that the nodes run in; ``None`` outside of ComfyUI."""

    private: Path | None = None
    """For settings, logs and PID files: a folder that no route serves."""
    models: Path | None = None
    tokenizer: Path | None = None
    """The Qwen tokenizer in ComfyUI's source code."""
    weights: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    """The folders of each kind of model, with those of ``extra_model_paths.yaml``."""
    user: Path | None = None
    """The user's folder that ComfyUI serves, which contains the house templates."""
    loras: Sequence[Path] = ()
    """The folders of adapters, with those of ``extra_model_paths.yaml``."""
