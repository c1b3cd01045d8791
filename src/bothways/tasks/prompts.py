"""What is put in front of texts: the checkpoint's prompts, or the caller's own."""

from __future__ import annotations

from typing import Any, TypeVar

from bothways.embed_spec import EmbedSpec
from bothways.errors import InputError
from bothways.tasks.inputs import shown
from bothways.tasks.plan import Plan

__all__ = ["choose_prompt", "prompted"]

_Out = TypeVar("_Out")


def choose_prompt(embed: EmbedSpec, prompt: str | None, name: str | None) -> str:
    """The text to put in front: `prompt`, else the checkpoint's of that name, else its default one.

    Raises:
        InputError: One of the two is no string, or the checkpoint has no prompt of that name.
    """
    for option, value in (("prompt", prompt), ("prompt_name", name)):
        if not isinstance(value, str | None):
            raise InputError(f"{option} is {shown(value)}; it must be a string, or None")
    if prompt is not None:
        return prompt
    if name is None:
        return embed.usual_prompt
    if name not in embed.prompts:
        known = ", ".join(sorted(embed.prompts))
        hint = "" if all(embed.prompts.values()) else " (empty unless the checkpoint fills them)"
        raise InputError(f"prompt_name {name!r} is unknown; known: {known}{hint}")
    return embed.prompts[name]


def prompted(plan: Plan[Any, _Out], prompt: str) -> Plan[str, _Out]:
    """The same plan for texts that get a prompt in front."""
    return plan.taking(lambda text: prompt + text) if prompt else plan
