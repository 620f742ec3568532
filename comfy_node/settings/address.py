"""Parsing of a worker's address, in the many ways in which people write it.

Input methods produce full-width colons, copied text comes with quotation marks, and scheme or port
may be missing; all of these are accepted. A login (before an ``@``) and a query (``?key=…``) belong
to a proxy in front of the worker. Both are secrets and never appear in a text.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from dataclasses import dataclass, field
from urllib.parse import unquote

from ..texts import Sentence, WorkerError, printable, say
from .secret import HIDDEN, Secret

DEFAULT_PORT = 7867
"""The worker's default port, for an address without one."""
TLS_PORT = 443
"""The default port of ``wss://`` and ``https://``, where a proxy terminates TLS."""
SOCKET_PATH = "/ws"

_SCHEMES = {"ws": "ws", "http": "ws", "wss": "wss", "https": "wss"}
_SCHEME = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]*)\s*:\s*//")
_RAW_SCHEME = re.compile(r"\s*([^\W\d_][\w+.-]*)\s*[:\uff1a]\s*[/\uff0f\\]{2}")
"""Like :data:`_SCHEME`, for text whose full-width characters are not yet normalized."""
_LOGIN = re.compile(r"(.*)[@\uff20](.*)", re.DOTALL)
"""Greedy up to the last ``@``, because a password may contain more of them."""
_QUERY = re.compile(r"([^?\uff1f]*)[?\uff1f](.*)", re.DOTALL)
_MISSING_COLON = re.compile(r"^(wss?|https?)//", re.IGNORECASE)
_HOST = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
_QUOTES = "\"'`“”\u2018\u2019「」『』《》<>"
_AROUND_MARKS = re.compile(r"\s*([:/@])\s*")


@dataclass(frozen=True)
class Address:
    """Where a worker listens. ``host`` is ASCII; an IPv6 address has no brackets."""

    scheme: str
    host: str
    port: int
    path: str = SOCKET_PATH
    login: Secret | None = field(default=None, repr=False)
    """``user:password`` for a proxy, percent-encoded as in the address."""
    query: Secret | None = field(default=None, repr=False)
    """The part after the ``?``, for a proxy that reads a key from it."""

    @property
    def netloc(self) -> str:
        """``host:port``, with brackets around an IPv6 address."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The websocket's URL without login and query, safe to display."""
        return f"{self.scheme}://{self.netloc}{self.path}"

    @property
    def socket_url(self) -> str:
        """The URL to connect to, with the query. Never display it."""
        return self.url + self._query_text()

    @property
    def display_url(self) -> str:
        """The URL for a person who edits it: login and query are replaced by a placeholder."""
        login = f"{HIDDEN}@" if self.login else ""
        query = f"?{HIDDEN}" if self.query else ""
        return f"{self.scheme}://{login}{self.netloc}{self.path}{query}"

    @property
    def is_loopback(self) -> bool:
        """Whether the address leads to this machine."""
        return is_loopback(self.host)

    def http_url(self, page: str) -> str:
        """The URL of one of the worker's HTTP pages, with the query. Never display it."""
        scheme = {"ws": "http", "wss": "https"}[self.scheme]
        return f"{scheme}://{self.netloc}{self.path.removesuffix(SOCKET_PATH)}/{page}" + (
            self._query_text()
        )

    def _query_text(self) -> str:
        return f"?{self.query.reveal()}" if self.query else ""

    def login_text(self) -> str | None:
        """``user:password`` decoded, as HTTP basic authentication sends it."""
        return unquote(self.login.reveal()) if self.login else None


def is_loopback(host: str | None) -> bool:
    """Whether a host name or address is a loopback one. Names are not looked up."""
    if host is None:
        return False
    if host.lower().removesuffix(".") == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    # A dual-stack socket reports 127.0.0.1 as ::ffff:127.0.0.1.
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def read_address(text: str) -> Address:
    """Parses ``host``, ``host:port``, ``http://…`` or ``ws://…``.

    Without a port it is 7867, or 443 for ``wss://`` and ``https://``. Raises :class:`WorkerError`
    whose sentence hides login and query.
    """
    whole = text.strip().strip(_QUOTES).strip()
    whole, query = _split_query(whole)
    login, rest = "", whole
    with_login = _LOGIN.fullmatch(whole)
    if with_login:
        head = _RAW_SCHEME.match(with_login[1])
        login = with_login[1][head.end() :] if head else with_login[1]
        rest = (head[0] if head else "") + with_login[2]
    rest = _normalize(rest)
    scheme = "ws"
    head = _SCHEME.match(rest)
    if head:
        scheme, rest = _SCHEMES.get(head[1].lower(), ""), rest[head.end() :]
        if not scheme:
            raise _invalid(
                text, say("`{scheme}` is not a supported scheme", scheme=printable(head[1], 20))
            )
    place, _, path = rest.partition("/")
    path = path.partition("#")[0].strip("/")
    host, port = _host_and_port(text, place.partition("#")[0])
    if port is None:
        port = TLS_PORT if scheme == "wss" else DEFAULT_PORT
    if any(letter.isspace() for letter in path):
        raise _invalid(text, say("it contains a space"))
    path = f"/{path}" if path else SOCKET_PATH
    return Address(scheme, host, port, path, Secret.of(login), Secret.of(query))


def without_login(text: str) -> str:
    """An address as it was typed, shortened, with login and query replaced by a placeholder."""
    whole, query = _split_query(text.strip())
    query = f"?{HIDDEN}" if query else ""
    parts = _LOGIN.fullmatch(whole)
    if not parts:
        return printable(whole, 200) + query
    head = _RAW_SCHEME.match(parts[1])
    return printable(f"{head[0] if head else ''}{HIDDEN}@{parts[2]}", 200) + query


def _split_query(text: str) -> tuple[str, str]:
    """Splits an address into the part before the query and the query, without the fragment.

    A ``?`` may also be part of a password, and an ``@`` part of a query. After a path, ``?`` always
    starts the query.
    """
    parts = _QUERY.fullmatch(text)
    if not parts:
        return text, ""
    before, query = parts.groups()
    head = _RAW_SCHEME.match(before)
    has_path = re.search(r"[/\uff0f]", before[head.end() :] if head else before)
    if has_path or not re.search("[@\uff20]", query):
        return before, query.partition("#")[0]
    behind_login = _LOGIN.fullmatch(text)
    place, query = _split_query(behind_login[2])
    return f"{behind_login[1]}@{place}", query


def _normalize(text: str) -> str:
    """Converts full-width characters to ASCII and removes invisible ones and stray spaces."""
    plain = unicodedata.normalize("NFKC", text).replace("。", ".").replace("\\", "/")
    plain = "".join(letter for letter in plain if unicodedata.category(letter) != "Cf")
    plain = _AROUND_MARKS.sub(r"\1", plain).strip().strip(_QUOTES).strip()
    return _MISSING_COLON.sub(r"\1://", plain)


def _host_and_port(text: str, place: str) -> tuple[str, int | None]:
    """Parses ``host:port``; the port is ``None`` if there is none."""
    if any(letter.isspace() for letter in place):
        raise _invalid(text, say("it contains a space"))
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::(.*))?", place)
    if bracketed:
        return _ipv6(text, bracketed[1]), _port(text, bracketed[2])
    if place.count(":") > 1:
        return _ipv6(text, place), None
    host, _, port = place.partition(":")
    if not host:
        raise _invalid(text, say("the host is missing"))
    return _name(text, host), _port(text, port or None)


def _ipv6(text: str, host: str) -> str:
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError as error:
        raise _invalid(
            text, say("`{host}` is not an IPv6 address", host=printable(host, 60))
        ) from error
    # A worker may listen on the unspecified address; a client reaches it through loopback.
    return "::1" if address.is_unspecified else str(address)


def _name(text: str, host: str) -> str:
    if host == "0.0.0.0":
        return "127.0.0.1"
    try:
        ascii_host = host.encode("idna").decode("ascii").lower()
    except UnicodeError:
        ascii_host = ""
    if not _HOST.fullmatch(ascii_host) or len(ascii_host) > 253:
        raise _invalid(text, say("`{host}` is not a valid host name", host=printable(host, 60)))
    return ascii_host


def _port(text: str, port: str | None) -> int | None:
    if port is None:
        return None
    number = int(port) if re.fullmatch(r"[0-9]{1,5}", port) else 0
    if not 0 < number < 1 << 16:
        raise _invalid(
            text, say("`{port}` is not a port from 1 to 65535", port=printable(port, 20))
        )
    return number


def _invalid(text: str, why: Sentence) -> WorkerError:
    return WorkerError(
        say("`{url}` is not a worker's address: {why}.", url=without_login(text), why=why),
        say("Write it as HOST:PORT, ws://HOST:PORT or wss://HOST:PORT."),
    )
