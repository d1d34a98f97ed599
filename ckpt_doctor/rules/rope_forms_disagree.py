"""CKD514."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy

from ._kit.rule import Rule

_SECTIONS = ("", "text_config")
# Names that transformers 5.24 makes one of, in `standardize_rope_params`.
_SAME = {"mrope": "default", "su": "longrope", None: "default"}
_SHORT = 60  # what a message repeats of a config


class RopeFormsDisagree(Rule):
    """`config.json` states the rotary embedding in two forms that disagree.

    ## What it does
    transformers 4 reads `rope_theta` and `rope_scaling`, and does not know `rope_parameters`. transformers 5 reads
    `rope_parameters`; where `rope_scaling` is there too and not empty, it takes that with `rope_theta` and ignores
    `rope_parameters`. This compares base, type and numbers where a config has both forms. A config with one of them
    is fine, and so are `rope_parameters` by type of layer.

    ## Why is this bad?
    Positions are rotated by other angles than in training. Every tensor arrives, nothing is reported, and the model
    computes something else, above all for long texts.

    ## Example
    `"rope_theta": 1000000.0` beside `"rope_parameters": {"rope_theta": 500000.0, "rope_type": "default"}`: transformers
    4 takes the first, 5 the second.

    ## What to do
    Find out from the training run which numbers are right, and make both forms say them. Or remove one: `rope_theta`
    and `rope_scaling` where transformers 5 reads the model, `rope_parameters` where transformers 4 does.
    """

    code = "CKD514"
    name = "rope-forms-disagree"
    severity = Severity.WARNING
    needs = "configs"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        if checkpoint.kind.covers != "model":
            return
        for part in checkpoint.parts_with("model"):
            data = (part.config.data if part.config is not None else None) or {}
            for name in _SECTIONS:
                section = data.get(name) if name else data
                if part.config is not None and isinstance(section, dict):
                    yield from self._section(part.config.path, f"{name}." if name else "", section)

    def _section(self, path: str, prefix: str, section: Mapping[str, Any]) -> Iterator[Finding]:
        new, scaling = section.get("rope_parameters"), section.get("rope_scaling")
        old_keys = {"rope_theta", "rope_scaling"} & section.keys()
        if not isinstance(new, dict) or not new or not old_keys or any(isinstance(v, dict) for v in new.values()):
            return
        if not isinstance(scaling, (dict, type(None))):
            return
        old = {**(scaling or {}), **({"rope_theta": section["rope_theta"]} if "rope_theta" in section else {})}
        differences = list(_differences(old, new))
        if differences:
            said = "; ".join(
                f"{prefix}{'rope_theta' if key == 'rope_theta' else f'rope_scaling.{key}'} is {_said(here)}, "
                f"{prefix}rope_parameters.{key} is {_said(there)}"
                for key, here, there in differences[:3]
            )
            taken = (
                "transformers 4 and 5 both take rope_scaling, and ignore rope_parameters."
                if scaling
                else "transformers 4 takes the former, transformers 5 the latter."
            )
            yield self.finding(
                f"The two forms of the rotary embedding disagree: {said}. {taken} Give both the values of the "
                "training, or remove one of them.",
                path=path,
                evidence={f"{prefix}{key}": [_said(here), _said(there)] for key, here, there in differences},
            )


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Keys that both forms have with other values, and the type, which one of them may leave out."""
    here, there = _type(old), _type(new)
    if here != there:
        yield "rope_type", here, there
    for key in sorted((old.keys() & new.keys()) - {"rope_type", "type"}):
        # Keys beside the type that one form leaves out have defaults that depend on the model.
        if old[key] is not None and new[key] is not None and old[key] != new[key]:
            yield key, old[key], new[key]


def _type(form: Mapping[str, Any]) -> Any:
    value = form.get("rope_type", form.get("type"))
    return _SAME.get(value, value) if isinstance(value, (str, type(None))) else str(value)


def _said(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # a number of more digits than Python prints
        text = "a number"
    return text if len(text) <= _SHORT else f"{text[:_SHORT]}..."
