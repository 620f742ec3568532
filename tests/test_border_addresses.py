# ruff: noqa: RUF001 - addresses as input methods write them
"""Every way in which people type a worker's address: understood, or refused in one sentence.

A login in an address is never displayed.
"""

from __future__ import annotations

import pytest

from comfy_node.settings.address import read_address, without_login
from comfy_node.settings.config import WorkerConfig
from comfy_node.settings.lookup import fingerprint
from comfy_node.texts import WorkerError

ADDRESSES = {
    # The canonical forms.
    "127.0.0.1:7867": "ws://127.0.0.1:7867/ws",
    "ws://127.0.0.1:7867/ws": "ws://127.0.0.1:7867/ws",
    "wss://gpu.example:8443/ovis": "wss://gpu.example:8443/ovis",
    # Without a port: the worker's default, or that of TLS.
    "127.0.0.1": "ws://127.0.0.1:7867/ws",
    "gpu": "ws://gpu:7867/ws",
    "http://gpu.example": "ws://gpu.example:7867/ws",
    "ws://gpu.example/": "ws://gpu.example:7867/ws",
    "https://gpu.example": "wss://gpu.example:443/ws",
    "wss://gpu.example/ovis/": "wss://gpu.example:443/ovis",
    "gpu.example:": "ws://gpu.example:7867/ws",
    # An input method's full-width forms.
    "127.0.0.1：7867": "ws://127.0.0.1:7867/ws",
    "１２７。０．０．１：７８６７": "ws://127.0.0.1:7867/ws",
    "ｗｓ：／／ｇｐｕ：１": "ws://gpu:1/ws",
    "ｗｓｓ：／／ｇｐｕ．example／ｗｓ": "wss://gpu.example:443/ws",
    # Copied with surrounding characters.
    "  gpu:1\n": "ws://gpu:1/ws",
    "\u3000gpu : 1\u3000": "ws://gpu:1/ws",
    '"ws://gpu:1"': "ws://gpu:1/ws",
    "“gpu:1”": "ws://gpu:1/ws",
    "「gpu:1」": "ws://gpu:1/ws",
    "<http://gpu:1/>": "ws://gpu:1/ws",
    "gpu:1\u200b": "ws://gpu:1/ws",
    "\ufeffgpu:1": "ws://gpu:1/ws",
    "http:\\\\gpu:1\\ws": "ws://gpu:1/ws",
    "HTTP://GPU:1/": "ws://gpu:1/ws",
    "wss//gpu:1": "wss://gpu:1/ws",
    "gpu:1/ws///": "ws://gpu:1/ws",
    "gpu:1/ws?x=1#y": "ws://gpu:1/ws",
    "gpu:007": "ws://gpu:7/ws",
    # IPv6.
    "[::1]:7867": "ws://[::1]:7867/ws",
    "[::1]": "ws://[::1]:7867/ws",
    "::1": "ws://[::1]:7867/ws",
    "ws://[2001:DB8::1]:1/x": "ws://[2001:db8::1]:1/x",
    "2001:db8::1": "ws://[2001:db8::1]:7867/ws",
    "wss://[::1]": "wss://[::1]:443/ws",
    # A worker may listen on the unspecified address, to which nobody can connect.
    "0.0.0.0:7867": "ws://127.0.0.1:7867/ws",
    "[::]:7867": "ws://[::1]:7867/ws",
    # Names in other scripts.
    "bücher.example:1": "ws://xn--bcher-kva.example:1/ws",
    "服务器。中国": "ws://xn--zfru1ggxt.xn--fiqs8s:7867/ws",
    "my_gpu.lan.:1": "ws://my_gpu.lan.:1/ws",
    # A login, for a proxy.
    "wss://user:secret@gpu.example": "wss://gpu.example:443/ws",
    "user:se:cr@et@gpu:1": "ws://gpu:1/ws",
    "ｗｓｓ：／／user:secret＠ｇｐｕ：１": "wss://gpu:1/ws",
    "token@[::1]:1": "ws://[::1]:1/ws",
    # A query, for a proxy.
    "wss://gpu.example/ws?token=secret": "wss://gpu.example:443/ws",
    "gpu?token=secret": "ws://gpu:7867/ws",
    "wss://gpu/ovis/ws?a=1&token=secret@x": "wss://gpu:443/ovis/ws",
    "wss://user:secret@gpu/ws?token=secret": "wss://gpu:443/ws",
    "wss://user:se?secret@gpu/ws": "wss://gpu:443/ws",
    "wss://user:se?secret@gpu/ws?token=secret": "wss://gpu:443/ws",
    "ｗｓｓ：／／ｇｐｕ／ｗｓ？token=secret": "wss://gpu:443/ws",
}
BAD_ADDRESSES = {
    "": "the host is missing",
    "   ": "the host is missing",
    ":7867": "the host is missing",
    "ws://": "the host is missing",
    "ws:///ws": "the host is missing",
    "/ws": "the host is missing",
    "user:secret@": "the host is missing",
    "gpu:0": "`0` is not a port",
    "gpu:65536": "not a port",
    "gpu:99999": "not a port",
    "gpu:-1": "not a port",
    "gpu:port": "`port` is not a port",
    "gpu:1.5": "not a port",
    "gpu:٣x": "not a port",
    "gpu:1" + "0" * 5000: "not a port",
    "two hosts:1": "a space",
    "ftp://gpu": "`ftp` is not a supported scheme",
    "file:///etc/passwd": "is not a supported scheme",
    "javascript://x": "is not a supported scheme",
    "[::1": "not an IPv6 address",
    "[::1]x:1": "not an IPv6 address",
    "[gpu]:1": "not an IPv6 address",
    "1:2:3": "not an IPv6 address",
    "a..b": "is not a valid host name",
    "-gpu": "is not a valid host name",
    "gpu!": "is not a valid host name",
    "g" * 300: "is not a valid host name",
    "x" * 100_000: "is not a valid host name",
    "gpu\x00:1": "is not a valid host name",
    "user:secret@gpu:0": "not a port",
    "ftp://user:secret@gpu": "is not a supported scheme",
    "wss://user:secret@/ws": "the host is missing",
    "gpu:0/ws?token=secret": "not a port",
    "wss://?token=secret": "the host is missing",
    # Typing mistakes.
    "gpu..local:7867": "is not a valid host name",
    ".:7867": "is not a valid host name",
    "a" * 70 + ".local:7867": "is not a valid host name",
    "ws://[::1:7867": "not an IPv6 address",
    "127.0.0.1:7867:7867": "not an IPv6 address",
    "127.0.0.1:78670": "not a port",
}


@pytest.mark.parametrize("typed", ADDRESSES)
def test_an_address_is_read_as_it_is_meant(typed):
    address = read_address(typed)
    assert address.url == ADDRESSES[typed]
    assert read_address(address.url) == read_address(address.url)
    for shown in (
        repr(address),
        address.url,
        address.display_url,
        address.netloc,
        without_login(typed),
    ):
        assert "secret" not in shown and "se:cr" not in shown
    assert WorkerConfig(url=typed).url == address.url


@pytest.mark.parametrize("typed", BAD_ADDRESSES)
def test_a_bad_address_is_a_sentence_without_its_login(typed):
    with pytest.raises(WorkerError, match="is not a worker's address") as caught:
        read_address(typed)
    assert BAD_ADDRESSES[typed] in caught.value.message
    whole = caught.value.text("en") + caught.value.text("zh") + repr(caught.value)
    assert "secret" not in whole and len(caught.value.message) < 400


def test_logins_are_kept_for_the_proxy_alone():
    typed = {
        "wss://user:se%63ret@gpu": "user:secret",
        "user:se:cr@et@gpu:1": "user:se:cr@et",
        "＠gpu": None,
    }
    for text, login in typed.items():
        assert read_address(text).login_text() == login


def test_a_query_is_kept_for_the_proxy_alone():
    typed = {
        "wss://gpu/ws?token=Se%2Fc": "wss://gpu:443/ws?token=Se%2Fc",
        "gpu/ovis/ws?a=1&b=x@y#part": "ws://gpu:7867/ovis/ws?a=1&b=x@y",
        "“gpu?k=v”": "ws://gpu:7867/ws?k=v",
        "gpu?": "ws://gpu:7867/ws",
    }
    for text, url in typed.items():
        assert read_address(text).socket_url == url
    address = read_address("wss://gpu/ovis/ws?token=a")
    assert address.http_url("health") == "https://gpu:443/ovis/health?token=a"
    assert address.display_url == "wss://gpu:443/ovis/ws?***"
    prints = {fingerprint(WorkerConfig(url=f"gpu?k={key}")) for key in "ab"}
    assert len(prints) == 2


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("localhost", True),
        ("LOCALHOST.:1", True),
        ("127.0.0.2", True),
        ("[::1]", True),
        ("[::ffff:127.0.0.1]", True),
        ("0.0.0.0", True),
        ("127.0.0.1.example", False),
        ("10.0.0.1", False),
        ("[2001:db8::1]", False),
    ],
)
def test_which_addresses_are_this_machine(url, here):
    assert WorkerConfig(url=url).is_on_this_machine is here
