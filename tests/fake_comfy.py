"""Stand-ins for the parts of ComfyUI that the nodes use, so that they run without it.

They behave as ComfyUI 0.18.1 does, but schemas accept only what 0.3.64 accepts, the oldest version
that the pack supports. :func:`installed` puts them where ``import`` finds them, and removes them
and the nodes again.
"""

from __future__ import annotations

import contextlib
import enum
import math
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from aiohttp import web

NAMES = ("comfy", "comfy_api", "latent_preview", "server", "folder_paths", "comfy_node.nodes")


# What `comfy_api/latest/_io.py` of 0.3.64 takes; later versions take more.
COMMON = {"display_name", "optional", "tooltip", "lazy"}
WIDGET = {*COMMON, "default", "socketless"}
NUMBER = {*WIDGET, "min", "max", "step", "display_mode", "force_input"}
WIDGETS = {
    "Int": {*NUMBER, "control_after_generate"},
    "Float": {*NUMBER, "round"},
    "String": {*WIDGET, "multiline", "placeholder", "dynamic_prompts", "force_input"},
    "Combo": {
        *WIDGET, "options", "control_after_generate", "upload", "image_folder", "remote",
    },
}  # fmt: skip
OUTPUT = {"display_name", "tooltip", "is_output_list"}


@dataclass
class Socket:
    """An input or output of a node, as its schema names it."""

    kind: str
    id: str | None = None
    optional: bool = False
    settings: dict = field(default_factory=dict)
    extra_dict: dict = field(default_factory=dict)


@dataclass
class Schema:
    """A node's schema, with the fields of ``io.Schema`` in 0.3.64."""

    node_id: str
    display_name: str | None = None
    category: str = "sd"
    inputs: list[Socket] | None = None
    outputs: list[Socket] | None = None
    hidden: list[str] | None = None
    description: str = ""
    is_input_list: bool = False
    is_output_node: bool = False
    is_deprecated: bool = False
    is_experimental: bool = False
    is_api_node: bool = False
    not_idempotent: bool = False
    enable_expand: bool = False


def kind_of_socket(kind: str) -> types.SimpleNamespace:
    """Like ``io.Int``: creates inputs and outputs of one type. An argument that ComfyUI would not
    accept raises TypeError."""

    def make(known: set[str], name: str | None, settings: dict[str, object]) -> Socket:
        if unknown := set(settings) - known:
            raise TypeError(f"{kind} {name} got unexpected arguments: {', '.join(unknown)}")
        optional = bool(settings.pop("optional", False))
        return Socket(kind, name, optional, settings)

    def make_input(name: str | None = None, **settings: object) -> Socket:
        return make(WIDGETS.get(kind, {*COMMON, "extra_dict"}), name, settings)

    def make_output(name: str | None = None, **settings: object) -> Socket:
        return make(OUTPUT, name, settings)

    return types.SimpleNamespace(Input=make_input, Output=make_output)


class NodeOutput:
    """The outputs of a node."""

    def __init__(self, *values: object, ui: dict | None = None) -> None:
        self.values, self.ui = values, ui


class ComfyNode:
    """A node with the id 7 in the graph."""

    hidden = types.SimpleNamespace(unique_id="7", prompt=None, extra_pnginfo=None)


class InterruptProcessingException(Exception):
    """ComfyUI's interrupt."""


class Interrupt:
    """ComfyUI's interrupt flag, which is cleared by the first reader."""

    wanted = False

    @classmethod
    def throw(cls) -> None:
        """Raises once for each interrupt."""
        if cls.wanted:
            cls.wanted = False
            raise InterruptProcessingException


class KSAMPLER:
    """A native SAMPLER."""

    def __init__(self, function: object, options: dict | None = None) -> None:
        self.sampler_function = function
        self.extra_options = options or {}
        self.inpaint_options = {}


class LatentPreviewMethod(enum.Enum):
    """ComfyUI's preview setting."""

    NoPreviews = "none"
    Auto = "auto"
    Latent2RGB = "latent2rgb"
    TAESD = "taesd"


class ProgressBar:
    """A progress bar that displays nothing."""

    def __init__(self, total: int, node_id: str | None = None) -> None:
        self.total = total

    def update_absolute(self, value: int, total: int, preview: object = None) -> None:
        """Nothing to see."""


class PromptServer:
    """Records the texts that nodes show, the pack's routes and its hook on prompts."""

    client_id = None

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.routes = web.RouteTableDef()
        self.app = web.Application()
        self.on_prompt: Callable[[dict], dict] | None = None

    def add_on_prompt_handler(self, handler: Callable[[dict], dict]) -> None:
        """Calls ``handler`` for every prompt."""
        self.on_prompt = handler

    def send_progress_text(self, text: str, node_id: str) -> None:
        """A text on a node."""
        self.texts.append(text)

    def send_sync(self, event: str, data: dict, page: str | None = None) -> None:
        """A message of a pack's own."""
        self.texts.append(data.get("text", ""))


def repeat_to_batch_size(tensor: torch.Tensor, batch: int) -> torch.Tensor:
    """Does what ``comfy.utils`` does."""
    if tensor.shape[0] < batch:
        tensor = tensor.repeat(math.ceil(batch / tensor.shape[0]), *[1] * (tensor.ndim - 1))
    return tensor[:batch]


def reshape_mask(mask: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """Does what ``comfy.utils`` does for images."""
    mask = mask.reshape((-1, 1, mask.shape[-2], mask.shape[-1]))
    mask = torch.nn.functional.interpolate(mask, size=shape[2:], mode="bilinear")
    return repeat_to_batch_size(mask, shape[0])


def common_upscale(samples: torch.Tensor, width: int, height: int, *_: str) -> torch.Tensor:
    """Resizes; the method does not matter here."""
    return torch.nn.functional.interpolate(samples.float(), size=(height, width))


def save_images(images: torch.Tensor, *_: object, **__: object) -> list[dict]:
    """Pretends to save images."""
    return [{"filename": "x.png", "subfolder": "", "type": "temp"}]


def folder_paths(base: Path, *, has_system_user: bool = True) -> types.ModuleType:
    """ComfyUI's folders under ``base``; since 0.3.76 with a system user directory."""
    made = types.ModuleType("folder_paths")
    made.__file__ = str(base / "folder_paths.py")
    made.models_dir = str(base / "models")
    made.folder_names_and_paths = {"vae": ([str(base / "models" / "vae")], {".safetensors"})}
    made.get_folder_paths = lambda kind: made.folder_names_and_paths[kind][0]
    for name in ("user", "output", "input", "temp"):
        setattr(made, f"get_{name}_directory", lambda name=name: str(base / name))
    if has_system_user:
        made.get_system_user_directory = lambda name: str(base / "user" / f"__{name}")
    return made


def _modules(base: Path) -> dict[str, types.ModuleType]:
    def module(name: str, **values: object) -> types.ModuleType:
        made = types.ModuleType(name)
        vars(made).update(values)
        return made

    kinds = ("Int", "Float", "String", "Combo", "Image", "Latent", "Conditioning", "Sampler")
    io = types.SimpleNamespace(
        **{kind: kind_of_socket(kind) for kind in (*kinds, "Sigmas")},
        Custom=kind_of_socket,
        ComfyNode=ComfyNode,
        NodeOutput=NodeOutput,
        Schema=Schema,
        NumberDisplay=types.SimpleNamespace(slider="slider"),
        FolderType=types.SimpleNamespace(temp="temp"),
        Hidden=types.SimpleNamespace(unique_id="u", prompt="p", extra_pnginfo="e"),
    )
    ui = types.SimpleNamespace(ImageSaveHelper=types.SimpleNamespace(save_images=save_images))
    args = types.SimpleNamespace(preview_method=LatentPreviewMethod.NoPreviews)
    native = module("comfy.k_diffusion.sampling", sample_euler=lambda: None, sample_lms=lambda: 0)
    uni_pc = module("uni_pc", sample_unipc=lambda: None, sample_unipc_bh2=lambda: None)
    server = module("server", PromptServer=PromptServer)
    PromptServer.instance = PromptServer()
    made = {
        "comfy": module("comfy"),
        "comfy.utils": module(
            "comfy.utils",
            repeat_to_batch_size=repeat_to_batch_size,
            reshape_mask=reshape_mask,
            common_upscale=common_upscale,
            ProgressBar=ProgressBar,
        ),
        "comfy.model_management": module(
            "comfy.model_management",
            InterruptProcessingException=InterruptProcessingException,
            throw_exception_if_processing_interrupted=Interrupt.throw,
            intermediate_device=lambda: torch.device("cpu"),
        ),
        "comfy.samplers": module("comfy.samplers", KSAMPLER=KSAMPLER),
        "comfy.k_diffusion": module("comfy.k_diffusion"),
        "comfy.k_diffusion.sampling": native,
        "comfy.extra_samplers": module("comfy.extra_samplers"),
        "comfy.extra_samplers.uni_pc": uni_pc,
        "comfy.cli_args": module(
            "comfy.cli_args", args=args, LatentPreviewMethod=LatentPreviewMethod
        ),
        "comfy_api": module("comfy_api"),
        "comfy_api.latest": module(
            "comfy_api.latest", io=io, ui=ui, ComfyExtension=type("ComfyExtension", (), {})
        ),
        "latent_preview": module("latent_preview", MAX_PREVIEW_RESOLUTION=512),
        "server": server,
        "folder_paths": folder_paths(base),
    }
    for name, one in made.items():
        parent, _, child = name.rpartition(".")
        if parent:
            setattr(made[parent], child, one)
    return made


def _is_stand_in(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in NAMES)


@contextlib.contextmanager
def installed(base: Path) -> Iterator[types.ModuleType]:
    """The nodes' package, with stand-ins for ComfyUI around it."""
    before = {name: one for name, one in sys.modules.items() if _is_stand_in(name)}
    for name in before:
        del sys.modules[name]
    sys.modules.update(_modules(base))
    try:
        import comfy_node.nodes

        yield comfy_node.nodes
    finally:
        for name in list(filter(_is_stand_in, sys.modules)):
            del sys.modules[name]
        sys.modules.update(before)
