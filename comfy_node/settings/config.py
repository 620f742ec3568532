"""What a worker's settings are once they are read, and the folders that they depend on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from .address import Address, read_address
from .cleaning import without_token
from .secret import Secret

DEFAULT_LABEL = "local"
DEFAULT_URL = "ws://127.0.0.1:7867/ws"
PACK_ROOT = Path(__file__).resolve().parent.parent.parent

ENVIRONMENT = {
    "url": "OVIS_WORKER_URL",
    "token": "OVIS_WORKER_TOKEN",
    "binary": "OVIS_WORKER_BIN",
    "model": "OVIS_WORKER_MODEL",
}
"""What overrides the settings of the label `local`."""


@dataclass(frozen=True)
class WorkerConfig:
    """One worker: where it listens and, if it may be started, how.

    Login and query of ``url`` are taken out of it, and a ``--token`` out of ``args``: both are
    printed. Raises :class:`WorkerError` for a ``url`` that is none.
    """

    label: str = DEFAULT_LABEL
    url: str = DEFAULT_URL
    token: Secret | str | None = field(default=None, repr=False)
    binary: str | None = None
    model: str | None = None
    args: tuple[str, ...] = ()
    log: str | None = None
    where: Address = field(init=False, repr=False)
    """The address, with a proxy's login and query where it has them."""

    def __post_init__(self) -> None:
        where = read_address(self.url)
        args, token = without_token(self.args)
        for name, value in (
            ("where", where),
            ("url", where.url),
            ("args", args),
            ("token", Secret.of(self.token) or Secret.of(token)),
        ):
            object.__setattr__(self, name, value)

    @property
    def address(self) -> str:
        """``host:port``, for sentences and for ``--listen``."""
        return self.where.netloc

    @property
    def is_on_this_machine(self) -> bool:
        """Whether the address is a loopback one, where a worker may be started."""
        return self.where.is_loopback


@dataclass(frozen=True)
class Places:
    """The folders of the ComfyUI that the nodes run in; ``None`` outside one."""

    private: Path | None = None
    """Settings, logs and notes of processes: a folder that no route serves."""
    models: Path | None = None
    tokenizer: Path | None = None
    """The Qwen tokenizer in ComfyUI's own source."""
    user: Path | None = None
    """The user's folder that ComfyUI serves, where house templates lie."""
