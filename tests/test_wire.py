"""The Python side of the protocol: golden bytes, limits, and invalid frames."""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import json
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comfy_node import wire
from comfy_node.wire import WireFormatError, transfer

GOLDEN = Path(__file__).parent.parent / "protocol" / "golden"
VECTORS = json.loads((GOLDEN / "vectors.json").read_text(encoding="utf-8"))
SIDES = {
    "client": (wire.encode_client, wire.decode_client),
    "worker": (wire.encode_worker, wire.decode_worker),
}
JOB = bytes(range(16))

# Names of enum variants in the vectors that differ from the class names.
VARIANTS = {
    wire.ClientHello: "Hello",
    wire.WorkerHello: "Hello",
    wire.StatusRequest: "Status",
    wire.EncodeRequest: "Encode",
    wire.DenoiseRequest: "Denoise",
    wire.DecodeRequest: "Decode",
    wire.VaeEncodeRequest: "VaeEncode",
    wire.AutoSchedule: "Auto",
}
PLAIN_STRUCTS = (
    wire.WireError,
    wire.TensorHeader,
    wire.Capabilities,
    wire.Outcome,
    wire.PromptCut,
    wire.SamplerOptions,
    wire.PreviewRequest,
    wire.SigmaInterval,
    wire.AdapterUse,
    wire.AdapterInfo,
    wire.ModelInfo,
    wire.ModelState,
    wire.JobOptions,
    wire.Keeping,
    wire.StateInterval,
)


def described(value: object) -> object:
    """A message in the notation of ``vectors.json``."""
    if isinstance(value, wire.ShiftSchedule):
        return {"type": "Shift", "value": value.shift}
    if isinstance(value, wire.SigmasSchedule):
        return {"type": "Sigmas", "value": value.sigmas}
    if isinstance(value, wire.NamedSchedule):
        return {"type": "Named", "value": value.scheduler}
    if isinstance(value, enum.IntEnum):
        return {"type": "".join(part.capitalize() for part in value.name.split("_"))}
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value).hex()
    if isinstance(value, list):
        return [described(item) for item in value]
    if dataclasses.is_dataclass(value):
        fields = {f.name: described(getattr(value, f.name)) for f in dataclasses.fields(value)}
        if isinstance(value, PLAIN_STRUCTS):
            return fields
        return {"type": VARIANTS.get(type(value), type(value).__name__), **fields}
    return value


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["file"])
def test_golden_vectors_mean_the_same_both_ways(vector):
    encode, decode = SIDES[vector["direction"]]
    golden = (GOLDEN / vector["file"]).read_bytes()
    message = decode(golden)
    assert described(message) == vector["message"]
    assert encode(message) == golden


def test_every_message_has_a_golden_vector():
    seen = {
        side: {v["message"]["type"] for v in VECTORS if v["direction"] == side} for side in SIDES
    }
    assert seen["client"] == {
        "Hello",
        "Submit",
        "Chunk",
        "Cancel",
        "Status",
        "Claim",
        "Acknowledge",
        "ListAdapters",
    }
    assert seen["worker"] == {
        *("Hello", "Refused", "Queued", "Started", "Progress", "Done"),
        *("Chunk", "Failed", "Cancelled", "Status", "ShuttingDown", "Preview", "State"),
        "Adapters",
    }


@pytest.mark.parametrize("side", SIDES)
@given(data=st.data())
@settings(max_examples=400, deadline=None)
def test_arbitrary_bytes_never_do_more_than_raise_a_format_error(side, data):
    _, decode = SIDES[side]
    # A valid variant number gets the decoder past the first four bytes.
    head = data.draw(st.sampled_from([b"", *(struct.pack("<I", n) for n in range(14))]))
    frame = head + data.draw(st.binary(max_size=300))
    with contextlib.suppress(WireFormatError):
        decode(frame)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["file"])
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_damaged_message_never_does_more_than_raise_a_format_error(vector, data):
    _, decode = SIDES[vector["direction"]]
    frame = bytearray((GOLDEN / vector["file"]).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    frame = frame[: data.draw(st.integers(0, len(frame)))]
    with contextlib.suppress(WireFormatError):
        decode(frame)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["file"])
def test_every_shorter_and_longer_frame_is_refused(vector):
    _, decode = SIDES[vector["direction"]]
    golden = (GOLDEN / vector["file"]).read_bytes()
    for end in range(len(golden)):
        with pytest.raises(WireFormatError):
            decode(golden[:end])
    with pytest.raises(WireFormatError, match="follow the end"):
        decode(golden + b"\0")


def test_a_count_larger_than_the_frame_is_refused_without_allocating():
    submit = struct.pack("<I", 1) + JOB + struct.pack("<IQ", 0, 1 << 60)
    with pytest.raises(WireFormatError, match="list"):
        wire.decode_client(submit)
    chunk = struct.pack("<I", 2) + JOB + struct.pack("<IQQ", 0, 0, 1 << 62)
    with pytest.raises(WireFormatError, match="too early"):
        wire.decode_client(chunk)


def test_a_message_over_the_limit_is_refused_both_ways():
    with pytest.raises(WireFormatError, match="limit"):
        wire.encode_client(wire.Chunk(JOB, 0, 0, bytes(wire.MAX_MESSAGE_BYTES)))
    with pytest.raises(WireFormatError, match="limit"):
        wire.decode_worker(bytes(wire.MAX_MESSAGE_BYTES + 1))


def test_values_outside_their_width_are_refused():
    with pytest.raises(WireFormatError, match="does not fit"):
        wire.encode_client(wire.ClientHello(1 << 32, 1, "x", None))
    with pytest.raises(WireFormatError, match="Unicode"):
        wire.encode_client(wire.ClientHello(1, 1, "\ud800", None))


def test_a_chunk_is_read_without_a_copy():
    frame = wire.encode_worker(wire.Chunk(JOB, 0, 0, b"abcd"))
    data = wire.decode_worker(frame).data
    frame[-1:] = b"X"  # the length stays, so the view stays valid
    assert bytes(data) == b"abcX"


@given(
    sizes=st.lists(st.integers(1, 5), min_size=0, max_size=wire.MAX_TENSORS),
    chunk_bytes=st.integers(1, 7),
)
@settings(deadline=None)
def test_tensors_survive_being_cut_into_chunks(sizes, chunk_bytes):
    sent = []
    for index, size in enumerate(sizes):
        header = wire.TensorHeader(f"t{index}", wire.DType.F32, [size])
        sent.append(transfer.WireTensor(header, struct.pack(f"<{size}f", *range(size))))
    assembler = transfer.Assembler([tensor.header for tensor in sent])
    for index, tensor in enumerate(sent):
        for offset in range(0, len(tensor.data), chunk_bytes):
            data = tensor.data[offset : offset + chunk_bytes]
            assembler.push(wire.Chunk(JOB, index, offset, data))
    assert assembler.complete
    assert [(t.header, bytes(t.data)) for t in assembler.finish()] == [
        (t.header, t.data) for t in sent
    ]


def test_a_large_tensor_leaves_in_chunks_of_the_agreed_size():
    data = bytes(wire.MAX_CHUNK_BYTES * 2 + 3)
    header = wire.TensorHeader("latent", wire.DType.U8, [len(data)])
    chunks = list(transfer.chunks(JOB, [transfer.WireTensor(header, data)]))
    assert [(c.tensor, c.offset, len(c.data)) for c in chunks] == [
        (0, 0, wire.MAX_CHUNK_BYTES),
        (0, wire.MAX_CHUNK_BYTES, wire.MAX_CHUNK_BYTES),
        (0, 2 * wire.MAX_CHUNK_BYTES, 3),
    ]


@pytest.mark.parametrize(
    ("tensor", "offset", "size"),
    [(1, 0, 4), (0, 4, 4), (0, 0, 0), (0, 0, 9)],
    ids=["another tensor", "a gap", "empty", "past the end"],
)
def test_a_chunk_that_does_not_continue_its_tensor_is_refused(tensor, offset, size):
    assembler = transfer.Assembler([wire.TensorHeader("a", wire.DType.F32, [2])])
    with pytest.raises(WireFormatError):
        assembler.push(wire.Chunk(JOB, tensor, offset, bytes(size)))


@pytest.mark.parametrize("shape", [[0], [1] * 9, [1 << 63, 1 << 63], [(1 << 28) + 1]])
def test_a_tensor_out_of_limits_is_refused(shape):
    with pytest.raises(WireFormatError):
        transfer.check_set([wire.TensorHeader("a", wire.DType.F32, shape)])


def test_too_many_tensors_or_too_many_bytes_together_are_refused():
    small = wire.TensorHeader("a", wire.DType.U8, [1])
    with pytest.raises(WireFormatError):
        transfer.check_set([small] * (wire.MAX_TENSORS + 1))
    half = wire.TensorHeader("a", wire.DType.U8, [(1 << 29) + 1])
    with pytest.raises(WireFormatError):
        transfer.check_set([half] * 2)


def listed(**fields: object) -> wire.Adapters:
    """A list of one adapter."""
    usual = {"name": "a.safetensors", "bytes": 1, "hash": bytes(32), "kind": "lora", "rank": 4}
    usual |= {"title": None, "triggers": [], "parts": ["transformer"]}
    return wire.Adapters([wire.AdapterInfo(**usual | fields)])


def test_lists_of_adapters_keep_the_limits():
    for fields in (
        {},
        {"name": "x" * wire.MAX_ADAPTER_NAME_BYTES, "title": "x" * 256, "triggers": ["霓虹"] * 32},
        {"preview": bytes(wire.MAX_ADAPTER_PICTURE_BYTES)},
    ):
        listed(**fields).check()
    for fields in (
        {"name": "../a"},
        {"name": "a\\b"},
        {"name": "x" * 256},
        {"title": "x" * 257},
        {"triggers": ["x"] * 33},
        {"parts": ["é" * 129]},
        {"preview": bytes(wire.MAX_ADAPTER_PICTURE_BYTES + 1)},
    ):
        with pytest.raises(WireFormatError):
            listed(**fields).check()


def test_models_are_found_by_name_and_keep_the_limits():
    def models(*names: str) -> wire.Capabilities:
        infos = [wire.ModelInfo(name, "m", "f32", ["encode"], 16, 8) for name in names]
        return wire.Capabilities([], [], "m", "cpu", "f32", 16, 8, 16, 1 << 20, models=infos)

    several = models("default", "fp8")
    several.check()
    assert several.model_of(None).name == "default"
    assert several.model_of("fp8").name == "fp8" and several.model_of("x") is None
    models("x" * wire.MAX_MODEL_NAME_BYTES).check()
    for names in [("",), ("a b",), ("x" * 65,), ("模型",), ("a",) * (wire.MAX_MODELS + 1)]:
        with pytest.raises(WireFormatError):
            models(*names).check()


def test_names_of_adapters_stay_in_their_folder():
    for name in ("a", "styles/neon v2.safetensors", "霓虹.safetensors"):
        assert wire.is_adapter_name(name)
    for name in ("", "/a", "a/", "a//b", "..", "a/../b", "a\\b", "C:a", "a\n", "a\x85", "x" * 256):
        assert not wire.is_adapter_name(name)
