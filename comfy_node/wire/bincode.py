"""bincode 2 with fixed-width little-endian integers, for dataclasses.

A message is a dataclass whose annotations are the wire types of this module (:data:`U32`,
``list[F32]``, ``str``, ``U64 | None`` ...). Its codec is derived from them, so that a message is
defined in one place. The encodings:

- integers and floats: little-endian, at their width
- ``str`` and :data:`Bytes`: the byte count as ``u64``, then the bytes
- ``list[X]``: the element count as ``u64``, then the elements
- ``bool``: one byte, 0 or 1
- ``X | None``: one byte, 0 or 1, then X if it was 1
- :data:`Uuid`, :data:`Secret` and :data:`Hash`: 16, 32 and 32 bytes without a count
- an ``IntEnum``: its number as ``u32``
- :class:`OneOf` (a Rust enum): the variant's number as ``u32``, then its fields
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import struct
import types
import typing
from typing import Annotated, Any

from .limits import SECRET_BYTES


class WireFormatError(ValueError):
    """The bytes are not a valid message, or a value cannot be encoded."""


class Codec:
    """Encodes and decodes one wire type."""

    def write(self, out: bytearray, value: Any) -> None:
        """Appends the encoding of ``value`` to ``out``."""
        raise NotImplementedError

    def read(self, reader: Reader) -> Any:
        """Decodes one value at the reader's position and moves past it."""
        raise NotImplementedError


class Reader:
    """A frame and the position up to which it has been decoded. Only strings are copied."""

    def __init__(self, frame: bytes | bytearray | memoryview) -> None:
        self.view = memoryview(frame).cast("B").toreadonly()
        self.position = 0

    @property
    def remaining(self) -> int:
        """The number of bytes that are not yet decoded."""
        return len(self.view) - self.position

    def take(self, count: int) -> memoryview:
        """Returns the next ``count`` bytes as a view into the frame, and moves past them."""
        if count > self.remaining:
            raise WireFormatError(f"the message ends {count - self.remaining} bytes too early")
        start = self.position
        self.position += count
        return self.view[start : self.position]


class _Number(Codec):
    def __init__(self, code: str) -> None:
        self.packer = struct.Struct("<" + code)

    def write(self, out: bytearray, value: Any) -> None:
        try:
            out += self.packer.pack(value)
        except (struct.error, OverflowError, TypeError) as error:
            raise WireFormatError(f"{value!r:.60} does not fit the wire: {error}") from error

    def read(self, reader: Reader) -> Any:
        return self.packer.unpack(reader.take(self.packer.size))[0]


_U32 = _Number("I")
_U64 = _Number("Q")


class _Bool(Codec):
    def write(self, out: bytearray, value: Any) -> None:
        out.append(1 if value else 0)

    def read(self, reader: Reader) -> bool:
        value = reader.take(1)[0]
        if value > 1:
            raise WireFormatError(f"a bool is 0 or 1, not {value}")
        return bool(value)


class _Fixed(Codec):
    """Bytes without a count, because their number is fixed."""

    def __init__(self, size: int, what: str) -> None:
        self.size = size
        self.what = what

    def write(self, out: bytearray, value: Any) -> None:
        if len(value) != self.size:
            raise WireFormatError(f"{self.what} has {self.size} bytes, not {len(value)}")
        out += value

    def read(self, reader: Reader) -> bytes:
        return bytes(reader.take(self.size))


class _Bytes(Codec):
    def write(self, out: bytearray, value: Any) -> None:
        view = memoryview(value).cast("B")
        _U64.write(out, len(view))
        out += view

    def read(self, reader: Reader) -> memoryview:
        return reader.take(_U64.read(reader))


class _String(Codec):
    def write(self, out: bytearray, value: Any) -> None:
        if not isinstance(value, str):
            raise WireFormatError(f"expected a string, got a {type(value).__name__}")
        try:
            data = value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise WireFormatError(f"a string is not valid Unicode: {error}") from error
        _U64.write(out, len(data))
        out += data

    def read(self, reader: Reader) -> str:
        try:
            return str(reader.take(_U64.read(reader)), "utf-8")
        except UnicodeDecodeError as error:
            raise WireFormatError(f"a string is not valid UTF-8: {error}") from error


class _List(Codec):
    def __init__(self, item: Codec) -> None:
        self.item = item

    def write(self, out: bytearray, value: Any) -> None:
        _U64.write(out, len(value))
        for element in value:
            self.item.write(out, element)

    def read(self, reader: Reader) -> list[Any]:
        count = _U64.read(reader)
        # Every element has at least one byte. Checking the count first keeps a wrong one from
        # making us allocate more than the frame holds.
        if count > reader.remaining:
            raise WireFormatError(f"a list of {count} elements in {reader.remaining} bytes")
        return [self.item.read(reader) for _ in range(count)]


class _Optional(Codec):
    def __init__(self, inner: Codec) -> None:
        self.inner = inner

    def write(self, out: bytearray, value: Any) -> None:
        if value is None:
            out.append(0)
        else:
            out.append(1)
            self.inner.write(out, value)

    def read(self, reader: Reader) -> Any:
        tag = reader.take(1)[0]
        if tag > 1:
            raise WireFormatError(f"an optional value starts with 0 or 1, not {tag}")
        return self.inner.read(reader) if tag else None


class _Enum(Codec):
    def __init__(self, kind: type[enum.IntEnum]) -> None:
        self.kind = kind

    def write(self, out: bytearray, value: Any) -> None:
        _U32.write(out, int(value))

    def read(self, reader: Reader) -> enum.IntEnum:
        number = _U32.read(reader)
        try:
            return self.kind(number)
        except ValueError as error:
            raise WireFormatError(f"{number} is not a {self.kind.__name__}") from error


class OpenEnum(_Enum):
    """An ``IntEnum`` that may grow: a number that it does not contain is decoded as an ``int``."""

    def read(self, reader: Reader) -> int:
        number = _U32.read(reader)
        return self.kind(number) if number in self.kind._value2member_map_ else number


class _Struct(Codec):
    def __init__(self, kind: type) -> None:
        self.kind = kind
        hints = typing.get_type_hints(kind, include_extras=True)
        self.fields = [
            (field.name, codec_of(hints[field.name])) for field in dataclasses.fields(kind)
        ]

    def write(self, out: bytearray, value: Any) -> None:
        for name, codec in self.fields:
            codec.write(out, getattr(value, name))

    def read(self, reader: Reader) -> Any:
        return self.kind(*(codec.read(reader) for _, codec in self.fields))


class OneOf(Codec):
    """A Rust enum: dataclasses that are numbered from 0 in the order given."""

    def __init__(self, *kinds: type) -> None:
        self.kinds = kinds
        self.number = {kind: number for number, kind in enumerate(kinds)}

    def write(self, out: bytearray, value: Any) -> None:
        number = self.number.get(type(value))
        if number is None:
            raise WireFormatError(f"a {type(value).__name__} cannot be sent here")
        _U32.write(out, number)
        codec_of(type(value)).write(out, value)

    def read(self, reader: Reader) -> Any:
        number = _U32.read(reader)
        if number >= len(self.kinds):
            raise WireFormatError(f"variant {number} is unknown, there are {len(self.kinds)}")
        return codec_of(self.kinds[number]).read(reader)


U32 = Annotated[int, _U32]
U64 = Annotated[int, _U64]
F32 = Annotated[float, _Number("f")]
F64 = Annotated[float, _Number("d")]
Uuid = Annotated[bytes, _Fixed(16, "a job's UUID")]
Secret = Annotated[bytes, _Fixed(SECRET_BYTES, "an owner's secret")]
Hash = Annotated[bytes, _Fixed(32, "a file's SHA-256")]
Bytes = Annotated[typing.Union[bytes, bytearray, memoryview], _Bytes()]  # noqa: UP007


@functools.cache
def codec_of(kind: Any) -> Codec:
    """The codec of an annotation or of a message class."""
    if typing.get_origin(kind) is Annotated:
        return next(extra for extra in kind.__metadata__ if isinstance(extra, Codec))
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is list:
        return _List(codec_of(arguments[0]))
    if typing.get_origin(kind) in (types.UnionType, typing.Union) and arguments[1] is type(None):
        return _Optional(codec_of(arguments[0]))
    if kind is str:
        return _String()
    if kind is bool:
        return _Bool()
    if isinstance(kind, type) and issubclass(kind, enum.IntEnum):
        return _Enum(kind)
    if dataclasses.is_dataclass(kind):
        return _Struct(kind)
    raise TypeError(f"{kind!r} has no wire encoding")
