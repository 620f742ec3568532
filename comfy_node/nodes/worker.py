"""Which worker the other nodes use."""

from __future__ import annotations

from pathlib import Path

import folder_paths
from comfy_api.latest import io

from .. import settings
from ..client import client_for
from ..errors import WorkerError
from ..settings import Places, WorkerConfig
from .jobs import wait_for

Worker = io.Custom("OVIS_WORKER")
"""A :class:`WorkerConfig` between nodes; never saved in a workflow."""

CATEGORY = "ovis"


def places() -> Places:
    """This ComfyUI's folders."""
    user = Path(folder_paths.get_user_directory()) / "default"
    source = Path(folder_paths.__file__).parent
    tokenizer = source / "comfy" / "text_encoders" / "qwen25_tokenizer"
    return Places(user, Path(folder_paths.models_dir), tokenizer)


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
                    options=settings.labels(places()),
                    default=settings.DEFAULT_LABEL,
                    tooltip="A label, so that the workflow can be shared. `local` is the worker on "
                    "this machine; others are described in ComfyUI's settings under Ovis Worker.",
                ),
            ],
            outputs=[Worker.Output(display_name="worker")],
        )

    @classmethod
    def validate_inputs(cls, worker: str | None) -> bool:
        """Any label may stand in a workflow; one that means nothing here says so when it runs."""
        return True

    @classmethod
    def fingerprint_inputs(cls, worker: str) -> object:
        """Runs again when the label comes to mean something else."""
        try:
            return hash(settings.resolve(worker, places()))
        except WorkerError as error:
            return error.message

    @classmethod
    async def execute(cls, worker: str) -> io.NodeOutput:
        """Resolves the label and connects."""
        config: WorkerConfig = settings.resolve(worker, places())
        hello = await wait_for(client_for(config).connect())
        can = hello.capabilities
        told = f"{can.model} on {can.device}, {can.precision}"
        return io.NodeOutput(config, ui={"ovis_worker": [told]})
