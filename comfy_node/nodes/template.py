"""A prompt from a house template."""

from __future__ import annotations

from comfy_api.latest import io

from ..prompts import templates
from ..texts import WorkerError
from . import inputs
from .jobs import show_text
from .places import places
from .worker import CATEGORY


def house_templates() -> templates.Found:
    """Those the pack ships, and the user's own."""
    return templates.find(templates.folders(places().user))


class OvisPromptTemplate(io.ComfyNode):
    """Boxes to STRING."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Inputs and outputs."""
        return io.Schema(
            node_id="OvisPromptTemplate",
            display_name="Ovis Prompt Template",
            category=CATEGORY,
            description="Writes the full prompt from a house template and what you put in the "
            "boxes. Connect it to the prompt of Ovis Prompt Encode.",
            inputs=[
                io.Combo.Input(
                    "template",
                    options=sorted(house_templates().templates),
                    default="poster",
                    tooltip="A house template. Your team's own are JSON files in the folder "
                    f"{templates.USER_FOLDER} in ComfyUI's user folder; press R to read them anew.",
                ),
                io.String.Input(
                    "headline",
                    multiline=True,
                    default="",
                    tooltip="The words that the image shows, one line a row. They are put in "
                    "quotation marks for you.",
                ),
                io.String.Input(
                    "style",
                    default="",
                    tooltip="How it looks: technique, era, typeface. Empty: the template's own.",
                ),
                io.String.Input(
                    "subject",
                    multiline=True,
                    default="",
                    tooltip="What it is for, or what it shows. Empty: the template's own.",
                ),
                io.String.Input(
                    "colours",
                    default="",
                    tooltip="For example: deep blue and orange on cream. May stay empty.",
                ),
            ],
            outputs=[
                io.String.Output("prompt", display_name="prompt"),
                io.String.Output("negative", display_name="negative"),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, template: object) -> bool | str:
        """Says what to do about a colleague's template that is not here."""
        if template is None:  # comes from another node, and is known only when it runs
            return True
        try:
            house_templates().named(inputs.text("template", template))
        except WorkerError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, template: object, **_: object) -> object:
        """Runs again when the template's file changes."""
        found = house_templates()
        chosen = found.templates.get(template) if isinstance(template, str) else None
        return repr(chosen), tuple(found.problems)

    @classmethod
    def execute(
        cls, template: str, headline: str, style: str, subject: str, colours: str
    ) -> io.NodeOutput:
        """The prompt and the template's negative; bad files are named on the node."""
        found = house_templates()
        boxes = {"headline": headline, "style": style, "subject": subject, "colours": colours}
        boxes = {name: inputs.text(name, value) for name, value in boxes.items()}
        chosen = found.named(inputs.text("template", template))
        show_text(cls.hidden.unique_id, *found.problems)
        return io.NodeOutput(chosen.compose(boxes), chosen.negative)
