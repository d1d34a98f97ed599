"""The next step for names that do not fit: the one change by which all do, or the class that has the missing head."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ckpt_doctor.core.findings import Finding
from ckpt_doctor.core.wording import shell
from ckpt_doctor.rules._kit.load_rule import Step
from ckpt_doctor.rules.loader_raised import LoaderRaised
from ckpt_doctor.rules.parameter_not_covered import ParameterNotCovered
from ckpt_doctor.rules.tensor_not_restored import TensorNotRestored
from ckpt_doctor.verification.names.segments import Edit, one_edit

if TYPE_CHECKING:
    from ckpt_doctor.core.parts import Part
    from ckpt_doctor.verification.names.matching import PartMatch
    from ckpt_doctor.verification.names.wanted import Wanted

# Prefixes that `ckpt-doctor fix` takes off, by the rule that finds them.
_REPAIRED = {("base_model", "model"): "CKD305", ("module",): "CKD304", ("_orig_mod",): "CKD304"}
_ABOUT_PLACES = (TensorNotRestored.code, LoaderRaised.code, ParameterNotCovered.code)
_VALUE_HEAD = ("v_head.", "pretrained_model.")


def advised(problems: list[Finding], advice: Callable[[], str]) -> list[Finding]:
    """The findings, with ``advice`` behind the first of those that say that tensors have no place in the model.

    It is not asked for where there are none, or where one of them says already what to do.
    """
    if any("mapping" in item.evidence for item in problems):
        return problems
    for code in _ABOUT_PLACES:
        for number, item in enumerate(problems):
            if item.code == code:
                told = item._replace(message=f"{item.message} {advice()}".rstrip())
                return [*problems[:number], told, *problems[number + 1 :]]
    return problems


def next_steps(matches: Iterable[PartMatch], folder: str) -> Step:
    """The next step for the names of all parts together; ``folder`` is the checkpoint."""
    steps = [next_step(match, folder) for match in matches if not match.part.secondary]
    text = " ".join(step.text for step in steps if step.text)
    return Step(text, {key: value for step in steps for key, value in step.evidence.items()})


def next_step(match: PartMatch, folder: str) -> Step:
    """The next step for the names of one part, where that is certain: empty else."""
    edit = _mending(match)
    if edit is None:
        return Step(_of_value_head(match.tensors))
    evidence = {"mapping": {edit.example[0]: edit.example[1]}, "names": edit.changed}
    return Step(_of_edit(edit, match.part, folder), evidence)


def _mending(match: PartMatch) -> Edit | None:
    """The one change by which all names of the part are names of the model."""
    shapes = {item.tensor.name: item.tensor.shape for item in match.tensors}
    for naming in (match.naming, *match.namings):
        if (match.part.role == "adapter") != (naming.adapter is not None):
            continue
        edit = one_edit(shapes, {key: target.shape for key, target in naming.targets.items()})
        if edit is not None:
            return edit
    return None


def _of_edit(edit: Edit, part: Part, folder: str) -> str:
    text = edit.words("names")
    if edit.added == ("base_model", "model") and not edit.before and not edit.removed:
        # PEFT looks for this prefix before any mapping of names.
        return f"{text} Put it into the file: {shell('fix', folder, '--select', 'CKD306', '--unsafe-fixes')}."
    text += f" {edit.for_peft() if part.role == 'adapter' else edit.for_transformers()}"
    code = _REPAIRED.get(edit.removed) if not edit.added else None
    if code == "CKD305" or (code is not None and not edit.before):
        unsafe = [] if code == "CKD305" else ["--unsafe-fixes"]
        text += f" Or rename them in the file: {shell('fix', folder, '--select', code, *unsafe)}."
    return text


def _of_value_head(tensors: Iterable[Wanted]) -> str:
    names = [item.tensor.name for item in tensors if item.tensor.name.startswith(_VALUE_HEAD)]
    if not any(name.startswith("v_head.") for name in names):
        return ""
    return (
        "v_head.* is the value head of TRL's AutoModelForCausalLMWithValueHead: load it with that class, or leave the "
        "head out for generation."
    )
