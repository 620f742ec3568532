"""Explains why a worker that was started does not answer."""

from __future__ import annotations

from ..settings.config import WorkerConfig
from ..texts import say
from .errors import StartFailed
from .process import WorkerProcess

_KILLED = (-9, 128 + 9)
"""Exit statuses of a killed process, directly or through a shell or a container."""


def exited(process: WorkerProcess) -> StartFailed:
    """The error for a worker that exited before it answered."""
    status = process.exit_code
    log = _end_of_log(process)
    if status in _KILLED:
        return StartFailed(
            say(
                "The operating system killed the worker while it was starting (status "
                "{status}), most likely because memory ran out.",
                status=status,
            ),
            say(
                "Close other programs, choose a smaller --precision, or limit the worker with "
                "--memory. {log}",
                log=log,
            ),
        )
    return StartFailed(
        say("The worker exited with status {status} while it was starting.", status=status), log
    )


def not_answering(config: WorkerConfig, process: WorkerProcess, seconds: float) -> StartFailed:
    """The error for a worker that does not answer in time, whether started here or not."""
    if process.found_another:
        return StartFailed(
            say(
                "Another program uses {address}, and no worker answers there after "
                "{seconds:.0f} seconds.",
                address=config.address,
                seconds=seconds,
            ),
            say("Stop that program, or give the worker another address in the settings."),
        )
    return StartFailed(
        say(
            "The worker was started, but does not answer at {address} after {seconds:.0f} seconds.",
            address=config.address,
            seconds=seconds,
        ),
        _end_of_log(process),
    )


def _end_of_log(process: WorkerProcess) -> str:
    return say(
        "The last lines of its log, {path}:\n{end}", path=process.log, end=process.log_tail()
    )
