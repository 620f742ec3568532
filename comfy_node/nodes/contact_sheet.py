"""The node that makes many images of one prompt and arranges them on a sheet."""

from __future__ import annotations

from dataclasses import replace

import torch
from comfy_api.latest import io

from .. import wire
from ..pictures.contact_sheet import AXES, Cell, Plan, plan, render
from ..texts import WorkerError
from ..worker.connection import JobResult
from . import inputs
from .denoise import negative_input
from .denoise_inputs import batch_index, check_width, denoise_tensors, latent_samples
from .jobs import connect, from_wire, run_job, to_wire
from .newer import schema
from .previews import DenoiseBar, preview_request
from .samplers import SAMPLERS, sampler_input, schedule_by_name, scheduler_input, shift_input
from .worker import CATEGORY, Worker

MAX_LIST_BYTES = 10_000


class OvisContactSheet(io.ComfyNode):
    """Denoises and decodes every combination of seeds, steps and cfg."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declares inputs and outputs."""
        return schema(
            node_id="OvisContactSheet",
            display_name="Ovis Contact Sheet",
            category=CATEGORY,
            description="Denoises and decodes every combination of seeds, steps and cfg on the "
            "worker and arranges the images on one labelled sheet.",
            search_aliases=["XY plot", "grid", "seeds", "样张"],
            inputs=[
                Worker.Input("worker"),
                io.Conditioning.Input("positive"),
                io.Latent.Input("latent", tooltip="Only the first entry of a batch is used."),
                io.String.Input(
                    "seeds",
                    default="0-3",
                    tooltip="Whole numbers and ranges, for example 1, 2, 10-13.",
                ),
                io.String.Input(
                    "steps",
                    default="50",
                    tooltip="Whole numbers and ranges from 1 to 200, for example 20, 50.",
                ),
                io.String.Input(
                    "cfg", default="5", tooltip="Numbers from 1 to 20, for example 3, 5, 7.5."
                ),
                io.Combo.Input(
                    "columns",
                    options=list(AXES),
                    tooltip="The value that varies from column to column; the other two vary "
                    "from row to row.",
                ),
                io.Int.Input(
                    "cell_size",
                    default=512,
                    min=0,
                    max=4096,
                    step=16,
                    tooltip="Maximum width and height of each image on the sheet, in pixels; 0 "
                    "keeps the full size.",
                ),
                sampler_input("sampler"),
                scheduler_input(),
                shift_input(),
                negative_input(),
            ],
            outputs=[
                io.Image.Output("sheet", display_name="sheet"),
                io.Image.Output("images", display_name="images"),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(
        cls, seeds: object, steps: object, cfg: object, columns: object
    ) -> bool | str:
        """Reports an invalid list before the prompt is executed."""
        values = (seeds, steps, cfg, columns)
        # The value of a linked input is not known before execution.
        if any(value is None for value in values):
            return True
        try:
            _parse_plan(*values)
        except WorkerError as error:
            return str(error)
        return True

    @classmethod
    async def execute(
        cls,
        worker: str,
        positive: list,
        latent: dict,
        seeds: str,
        steps: str,
        cfg: str,
        columns: str,
        cell_size: int,
        sampler: str,
        scheduler: str,
        shift: float,
        negative: list | None = None,
    ) -> io.NodeOutput:
        """Returns the sheet ``[1, H, W, 3]``, and its images in reading order ``[B, h, w, 3]``."""
        sheet = _parse_plan(seeds, steps, cfg, columns)
        cell_size = inputs.integer("cell_size", cell_size, 0, 4096)
        sampler = inputs.choice("sampler", sampler, SAMPLERS)
        schedule = schedule_by_name(scheduler, shift)
        inputs.worker_label(worker)
        batch = latent_samples(latent)
        first, samples = _first_entry(latent, len(batch)), batch[:1]
        indices = batch_index(first, len(samples))
        # Check both conditionings now, although only later images may need the negative one.
        guided = any(cell.cfg != 1.0 for cell in sheet.cells)
        checked = denoise_tensors(positive, negative, guided, first, samples)
        hello = await connect(worker, cls.hidden.unique_id)
        check_width(checked, hello.capabilities)
        preview = preview_request(hello.capabilities)
        bar = _SheetBar(cls.hidden.unique_id, sheet.cells)
        images = []
        for cell in sheet.cells:
            request = wire.DenoiseRequest(
                seed=cell.seed,
                steps=cell.steps,
                cfg=cell.cfg,
                sampler=sampler,
                batch_index=indices,
                preview=preview,
                **schedule,
            )
            tensors = denoise_tensors(positive, negative, cell.cfg != 1.0, first, samples)
            result = await run_job(worker, cls.hidden.unique_id, request, tensors, bar.show)
            images.append(await _decode(worker, cls.hidden.unique_id, result))
            bar.end(cell)
        page = render(sheet, [image[0].cpu().numpy() for image in images], cell_size)
        return io.NodeOutput(torch.from_numpy(page)[None], torch.cat(images))


class _SheetBar:
    """One progress bar for all images of the sheet."""

    def __init__(self, node_id: str, cells: list[Cell]) -> None:
        self._total = sum(cell.steps for cell in cells)
        self._done = 0
        self._bar = DenoiseBar(node_id, self._total)

    def show(self, event: wire.Progress | wire.Preview) -> None:
        """Shows an event of the image that is being made."""
        if isinstance(event, wire.Progress):
            event = replace(event, step=self._done + event.step, total=self._total)
        self._bar.show(event)

    def end(self, cell: Cell) -> None:
        """Counts an image as done."""
        self._done += cell.steps


def _parse_plan(seeds: object, steps: object, cfg: object, columns: object) -> Plan:
    lists = {"seeds": seeds, "steps": steps, "cfg": cfg}
    texts = [inputs.text(name, value, MAX_LIST_BYTES) for name, value in lists.items()]
    return plan(*texts, inputs.choice("columns", columns, AXES))


def _first_entry(latent: dict, batch: int) -> dict:
    """The mask and batch index that belong to the first entry of a batch."""
    first = dict(latent)
    if latent.get("noise_mask") is not None:
        mask = inputs.mask("latent.noise_mask", latent["noise_mask"])
        first["noise_mask"] = mask.reshape((-1, 1, *mask.shape[-2:]))[:1]
    if latent.get("batch_index") is not None:
        indices = inputs.indices("latent.batch_index", latent["batch_index"], batch)
        first["batch_index"] = indices[:1]
    return first


async def _decode(worker: object, node_id: str, result: JobResult) -> torch.Tensor:
    tensors = [to_wire("latent", from_wire(result, "latent"))]
    decoded = await run_job(worker, node_id, wire.DecodeRequest(), tensors)
    return from_wire(decoded, "image")
