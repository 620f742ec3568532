"""Which worker the other nodes use."""

from __future__ import annotations

from comfy_api.latest import io

from ..settings import lookup
from ..settings.config import DEFAULT_LABEL
from ..texts import WorkerError, shown
from . import inputs
from .jobs import connected
from .places import places

Worker = io.Custom("OVIS_WORKER")
"""A worker's label between nodes: what it means stays with the settings."""

CATEGORY = "ovis"


class OvisWorker(io.ComfyNode):
    """Names a worker by a label and connects to it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="OvisWorker",
            display_name="Ovis Worker",
            category=CATEGORY,
            description="Connects to the ovis-worker that holds the model. Starts one when none "
            "answers on this machine and its binary is known.",
            inputs=[
                io.Combo.Input(
                    "worker",
                    options=lookup.labels(places()),
                    default=DEFAULT_LABEL,
                    tooltip="A label, so that the workflow can be shared. `local` is the worker on "
                    "this machine; others are described in ComfyUI's settings under Ovis Worker.",
                ),
            ],
            outputs=[Worker.Output(display_name="worker")],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, worker: object) -> bool:
        """Any label may stand in a workflow; one that means nothing here says so when it runs."""
        return True

    @classmethod
    def fingerprint_inputs(cls, worker: object) -> object:
        """Runs again when the label comes to mean something else."""
        if not isinstance(worker, str):
            return None  # comes from another node, and is known only when it runs
        try:
            return lookup.fingerprint(lookup.resolve(worker, places()))
        except WorkerError as error:
            return error.message

    @classmethod
    async def execute(cls, worker: str) -> io.NodeOutput:
        """Resolves the label and connects. The label goes on to the other nodes."""
        label = inputs.worker_label(worker)
        hello = await connected(label, cls.hidden.unique_id)
        can = hello.capabilities
        told = shown(f"{can.model} on {can.device}, {can.precision}")
        return io.NodeOutput(label, ui={"ovis_worker": [told]})
