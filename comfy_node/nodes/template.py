"""The node that builds a prompt from a house template."""

from __future__ import annotations

from comfy_api.latest import io

from ..prompts import templates
from ..texts import WorkerError
from . import choices, inputs
from .comfyui import folders
from .jobs import show_text
from .newer import ESSENTIALS, schema
from .worker import CATEGORY


def house_templates() -> templates.Found:
    """The templates that come with the pack, and the user's own."""
    return templates.find(templates.search_path(folders().user))


class OvisPromptTemplate(io.ComfyNode):
    """Builds a prompt, a STRING, from text boxes."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Declares inputs and outputs."""
        return schema(
            node_id="OvisPromptTemplate",
            display_name="Ovis Prompt Template",
            category=CATEGORY,
            description="Builds the full prompt from a house template and a few text boxes. "
            "Connect it to the prompt of Ovis Prompt Encode.",
            search_aliases=["poster", "headline", "prompt", "模板", "海报"],
            essentials_category=ESSENTIALS,
            inputs=[
                io.Combo.Input(
                    "template",
                    options=choices.template_names(),
                    default="poster",
                    tooltip="A house template. Your team's own templates are JSON files in the "
                    f"folder {templates.USER_FOLDER} in ComfyUI's user folder; press R to reload "
                    "them.",
                ),
                io.String.Input(
                    "headline",
                    multiline=True,
                    default="",
                    tooltip="Text that appears in the image, one line per row. Quotation marks "
                    "are added for you.",
                ),
                io.String.Input(
                    "style",
                    default="",
                    tooltip="Technique, era, typeface. Empty: the template's default.",
                ),
                io.String.Input(
                    "subject",
                    multiline=True,
                    default="",
                    tooltip="What the image is for, or what it shows. Empty: the template's "
                    "default.",
                ),
                io.String.Input(
                    "colours",
                    default="",
                    tooltip="For example: deep blue and orange on cream. May be empty.",
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
        """Reports a missing template, for example a colleague's, before execution."""
        if template is None:  # a linked input, whose value is not known before execution
            return True
        try:
            house_templates().named(inputs.text("template", template))
        except WorkerError as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(cls, template: object, **_: object) -> object:
        """Changes with the template's file, so that the node runs again."""
        found = house_templates()
        chosen = found.templates.get(template) if isinstance(template, str) else None
        return repr(chosen), tuple(found.problems)

    @classmethod
    def execute(
        cls, template: str, headline: str, style: str, subject: str, colours: str
    ) -> io.NodeOutput:
        """Returns the prompt and the template's negative; shows invalid files on the node."""
        found = house_templates()
        boxes = {"headline": headline, "style": style, "subject": subject, "colours": colours}
        boxes = {name: inputs.text(name, value) for name, value in boxes.items()}
        chosen = found.named(inputs.text("template", template))
        show_text(cls.hidden.unique_id, *found.problems)
        return io.NodeOutput(chosen.compose(boxes), chosen.negative)
