"""What only newer versions of ComfyUI know about nodes and widgets."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

from comfy_api.latest import io

ESSENTIALS = "Image Generation"
"""The group of the frontend's Essentials tab in which native samplers and loaders are shown."""

_NEWER = frozenset({"search_aliases", "essentials_category", "has_intermediate_output"})
"""Fields of ``io.Schema`` that version 0.3.64, the oldest supported, does not have."""
_Widget = TypeVar("_Widget")


def schema(**fields: object) -> io.Schema:
    """A schema; the newer fields are left out where the running ComfyUI does not know them."""
    known = {field.name for field in dataclasses.fields(io.Schema)}
    return io.Schema(**{key: fields[key] for key in fields if key in known or key not in _NEWER})


def advanced(widget: _Widget) -> _Widget:
    """The widget, which newer versions of ComfyUI show among a node's advanced ones.

    The argument `advanced` is unknown to version 0.3.64, which shows the widget with the others.
    """
    widget.extra_dict["advanced"] = True
    return widget
