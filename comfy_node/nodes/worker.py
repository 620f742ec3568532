"""The node that selects the worker for the other nodes."""

from __future__ import annotations

from collections.abc import Sequence

from comfy_api.latest import io

from .. import wire
from ..settings import lookup, weights
from ..settings.config import DEFAULT_LABEL
from ..texts import WorkerError, page_language, printable, say, translated
from ..worker.errors import StartFailed
from . import choices, inputs
from .comfyui import folders
from .jobs import connect
from .newer import advanced, schema

Worker = io.Custom("OVIS_WORKER")
"""The type of links between nodes that carry a worker's label."""

CATEGORY = "ovis"

PRIORITIES = [priority.name.lower() for priority in wire.Priority]
"""The values of the widget for the priority."""


class OvisWorker(io.ComfyNode):
    """Names a worker by its label and connects to it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declares inputs and outputs."""
        return schema(
            node_id="OvisWorker",
            display_name="Ovis Worker",
            category=CATEGORY,
            description="Connects to the ovis-worker that holds the model. Starts one if none "
            "answers on this machine and its binary is known.",
            search_aliases=["load checkpoint", "load diffusion model", "server", "服务"],
            has_intermediate_output=True,
            inputs=[
                io.Combo.Input(
                    "worker",
                    options=choices.worker_labels(),
                    default=DEFAULT_LABEL,
                    tooltip="A label, so that the workflow can be shared. `local` is the worker "
                    "on this machine; other workers are set up in ComfyUI's settings "
                    "under Ovis Worker.",
                ),
                # Optional and last, so that graphs saved before it existed still run.
                advanced(
                    io.Combo.Input(
                        "priority",
                        options=PRIORITIES,
                        default="normal",
                        optional=True,
                        tooltip="The order of your own waiting jobs. It takes nothing from other "
                        "users of the worker.",
                    )
                ),
                io.Combo.Input(
                    "model",
                    options=choices.model_names(),
                    default=inputs.DEFAULT_MODEL,
                    optional=True,
                    tooltip="Which of the worker's models to use, by its name. `default` is the "
                    "one that the worker was started with.",
                ),
            ],
            outputs=[Worker.Output(display_name="worker")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, worker: object, model: object = inputs.DEFAULT_MODEL) -> bool:
        """Accepts any label and model; an unknown one is reported on execution, with a hint."""
        return True

    @classmethod
    def fingerprint_inputs(
        cls,
        worker: object,
        priority: object = "normal",
        model: object = inputs.DEFAULT_MODEL,
    ) -> object:
        """Changes with the settings of the label, so that the node runs again."""
        if not isinstance(worker, str):
            return None  # a linked input, whose value is not known before execution
        try:
            return lookup.fingerprint(lookup.resolve(worker, folders()))
        except WorkerError as error:
            return error.message

    @classmethod
    async def execute(
        cls, worker: str, priority: str = "normal", model: str = inputs.DEFAULT_MODEL
    ) -> io.NodeOutput:
        """Connects to the worker, and passes its label and the choices on to the other nodes."""
        label = inputs.worker_label(worker)
        name = inputs.model_name("model", model)
        chosen = wire.Priority[inputs.choice("priority", priority, PRIORITIES).upper()]
        config = lookup.resolve(label, folders())
        try:
            hello = await connect(label, cls.hidden.unique_id)
        except StartFailed as error:
            raise StartFailed(error.message, "\n".join([error.hint, *config.missing])) from error
        can = hello.capabilities
        choices.note_models(one.name for one in can.models)
        runs = can.model_of(name)
        if runs is None:
            raise _no_such_model(label, name, can)
        told = printable(f"{runs.model} on {can.device}, {runs.precision}")
        language = page_language.current()
        missing = [translated(one, language) for one in _told(config.missing)]
        shown = {"ovis_worker": [told], "ovis_text": missing if config.is_on_this_machine else []}
        return io.NodeOutput(inputs.with_choices(label, chosen, name), ui=shown)


def _told(missing: Sequence[str]) -> Sequence[str]:
    """What the node says of missing weights. Where none are there, one sentence is enough: before
    the first picture, nobody needs their addresses."""
    if len(missing) < len(weights.FILES):
        return missing
    return [
        say(
            "None of the weights of Ovis-Image is in ComfyUI's folders, so a worker that the nodes "
            "start draws with its demo model. The note in each workflow says what to download."
        )
    ]


def _no_such_model(label: str, name: str | None, can: wire.Capabilities) -> WorkerError:
    return WorkerError(
        say(
            "The worker `{label}` has no model called `{name}`.",
            label=printable(label, 60),
            name=name or inputs.DEFAULT_MODEL,
        ),
        say(
            "It has: {names}. Another one is added with `serve --also NAME=PATH`.",
            names=printable(", ".join(one.name for one in can.models), 200),
        ),
        wire.ErrorCode.MISSING_MODEL,
    )
