"""Which node replaces which earlier one, for versions of ComfyUI that can replace nodes.

The earlier nodes still exist, so that saved graphs run unchanged everywhere. These versions tell
the frontend and other tools how to turn an earlier node into its successor.
"""

from __future__ import annotations

from comfy_api import latest

# The widgets of the earlier nodes in their order, which is that of a saved graph's values.
_DENOISE = ["seed", "steps", "cfg", "denoise", "shift", "sampler", "scheduler", "cache"]
_ADVANCED = [
    *("add_noise", "noise_seed", "steps", "cfg", "sampler", "scheduler", "shift", "start_at_step"),
    *("end_at_step", "return_with_leftover_noise", "cache", "guidance_start", "guidance_end"),
]
_RENAMED = {"sampler": "sampler_name", "latent": "latent_image"}
_SOCKETS = ["worker", "positive", "negative", "latent"]

REPLACED: dict[str, tuple[str, list[str], dict[str, str]]] = {
    "OvisDenoise": (
        "OvisKSampler",
        _DENOISE,
        {name: _RENAMED.get(name, name) for name in [*_SOCKETS, *_DENOISE]},
    ),
    "OvisDenoiseAdvanced": (
        "OvisKSamplerAdvanced",
        _ADVANCED,
        {
            name: _RENAMED.get(name, name)
            for name in [*_SOCKETS, "custom_sampler", "sigmas", *_ADVANCED]
        },
    ),
    "OvisDecode": ("OvisVAEDecode", [], {"worker": "worker", "latent": "samples"}),
}
"""By earlier node: the new one, the earlier widgets, and the new input of each earlier one."""


async def register() -> None:
    """Registers the replacements; does nothing where ComfyUI does not know such."""
    replace = getattr(latest.io, "NodeReplace", None)
    if replace is None:
        return
    api = latest.ComfyAPI()
    for old, (new, widgets, names) in REPLACED.items():
        mapping = [{"new_id": new_id, "old_id": old_id} for old_id, new_id in names.items()]
        await api.node_replacement.register(
            replace(
                new_node_id=new,
                old_node_id=old,
                old_widget_ids=widgets,
                input_mapping=mapping,
                output_mapping=[{"new_idx": 0, "old_idx": 0}],
            )
        )
