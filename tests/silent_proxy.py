"""A TCP proxy that can go silent: nothing arrives any more, but nothing is closed."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading

BUFFER = 1 << 16


class SilentProxy:
    """Forwards TCP to a local port, until it is cut and again after it is restored.

    While it is cut it reads nothing, as if every packet were lost. Data that was sent meanwhile
    waits at the sender, and arrives later if the connection is still open then. New connections are
    not answered either.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open = threading.Event()
        self._open.set()
        self._ends = threading.Event()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Stops forwarding."""
        self._open.clear()

    def restore(self) -> None:
        """Forwards again."""
        self._open.set()

    def close(self) -> None:
        """Closes the proxy and every connection through it."""
        self._ends.set()
        self._open.set()
        self._thread.join(10)
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()
        self._selector.close()

    def _run(self) -> None:
        while not self._ends.is_set():
            self._open.wait()
            for key, _ in self._selector.select(timeout=0.05):
                if not self._open.is_set():
                    break
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    self._pass_on(key.fileobj, key.data)

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        try:
            far = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            near.close()
            return
        self._selector.register(near, selectors.EVENT_READ, far)
        self._selector.register(far, selectors.EVENT_READ, near)

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        data = b""
        with contextlib.suppress(OSError):
            data = source.recv(BUFFER)
            target.sendall(data)
        if data:
            return
        for one in (source, target):
            with contextlib.suppress(KeyError):
                self._selector.unregister(one)
            one.close()
