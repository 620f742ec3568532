"""Asks `/readyz` at a fixed rate, in a process of its own, and prints how long each answer took.

A process of its own, because the load's event loop would add its own delays to the figures.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
import threading
import time

TIMEOUT_SECONDS = 10.0


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", default="/readyz")
    parser.add_argument("--rate", type=float, default=10.0, help="requests a second")
    given = parser.parse_args()
    ends = threading.Event()
    # The parent closes our standard input when it has measured for long enough.
    threading.Thread(target=lambda: (sys.stdin.read(), ends.set()), daemon=True).start()
    seconds: list[float] = []
    statuses: dict[str, int] = {}
    due = time.monotonic()
    while not ends.is_set():
        begun = time.monotonic()
        status = ask(given.port, given.path)
        seconds.append(time.monotonic() - begun)
        statuses[status] = statuses.get(status, 0) + 1
        due = max(due + 1 / given.rate, begun)
        ends.wait(max(0.0, due - time.monotonic()))
    print(json.dumps({"seconds": seconds, "statuses": statuses}), flush=True)


def ask(port: int, path: str) -> str:
    """One request on a connection of its own; the status, or the kind of the error."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        return str(answer.status)
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    finally:
        connection.close()


if __name__ == "__main__":
    main()
