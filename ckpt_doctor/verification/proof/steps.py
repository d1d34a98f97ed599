"""What to do about names that do not fit: the one change by which all do, or the class that has the missing head."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ckpt_doctor.core.findings import Finding
from ckpt_doctor.core.wording import shell
from ckpt_doctor.verification.hosting.isolation import run
from ckpt_doctor.verification.model.bases import hollow_model
from ckpt_doctor.verification.names.segments import Edit, one_edit

if TYPE_CHECKING:
    from ckpt_doctor.core.parts import Part
    from ckpt_doctor.verification.names.matching import PartMatch
    from ckpt_doctor.verification.names.wanted import Wanted

# Prefixes that `ckpt-doctor fix` takes off, by the rule that finds them.
_REPAIRED = {("base_model", "model"): "CKD305", ("module",): "CKD304", ("_orig_mod",): "CKD304"}
_SAVE_AGAIN = "Save it again from the training run, or give the model that it was saved from."
_VALUE_HEAD = ("v_head.", "pretrained_model.")


def with_steps(problems: list[Finding], found: Iterable[PartMatch], folder: str) -> list[Finding]:
    """The findings, CKD001 with a next step where one is certain, CKD003 always. ``folder`` is the checkpoint."""
    codes = [item.code for item in problems]
    code = "CKD001" if "CKD001" in codes else "CKD003"
    if code not in codes:
        return problems
    done = list(problems)
    for part in found:
        at = next((number for number, item in enumerate(done) if _is_about(item, code, part)), None)
        text, evidence = _step(part, folder) if at is not None else ("", {})
        if at is not None and text:
            item = done[at]
            done[at] = item._replace(message=f"{item.message} {text}", evidence={**item.evidence, **evidence})
    if code == "CKD001":
        return done
    # Where every tensor of the file has a place, the file itself is what falls short.
    untold = [item for item in problems if item.code == code and item in done]
    return [item._replace(message=f"{item.message} {_SAVE_AGAIN}") if item in untold else item for item in done]


def _is_about(item: Finding, code: str, part: PartMatch) -> bool:
    if item.code != code or part.part.secondary:
        return False
    return code == "CKD003" or item.path in {wanted.file.path for wanted in part.tensors}


def _step(part: PartMatch, folder: str) -> tuple[str, dict[str, Any]]:
    shapes = {item.tensor.name: tuple(item.tensor.shape) for item in part.tensors}
    for naming in (part.naming, *part.namings):
        if (part.part.role == "adapter") != (naming.adapter is not None):
            continue
        edit = one_edit(shapes, {key: target.shape for key, target in naming.targets.items()})
        if edit is not None:
            return _of_edit(edit, part, folder), {"mapping": {edit.example[0]: edit.example[1]}, "names": edit.changed}
    return _of_value_head(part.tensors), {}


def _of_edit(edit: Edit, part: PartMatch, folder: str) -> str:
    text = edit.words("names")
    if edit.added == ("base_model", "model") and not edit.before and not edit.removed:
        # PEFT looks for this prefix before any mapping of names.
        return f"{text} Put it into the file: {shell('fix', folder, '--select', 'CKD306', '--unsafe-fixes')}."
    text += f" {edit.for_peft() if part.part.role == 'adapter' else edit.for_transformers()}"
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


def fitting_elsewhere(config: Any, kinds: Callable[[], Iterator[Any]], part: Part, taken: Any) -> str:
    """The class of this config that has every tensor of a whole model, where the one that was ``taken`` has not."""
    shapes = {tensor.name: tuple(tensor.shape) for tensor in part.tensors}
    if _fits(config, taken, shapes) is not None:
        return ""  # it is not for want of a class
    name = next(filter(None, (_fits(config, kind, shapes) for kind in kinds())), None)
    return f"All {len(shapes):,} names match in {name}: load it with {name}.from_pretrained." if name else ""


def _fits(config: Any, kind: Any, shapes: Mapping[str, tuple[int, ...]]) -> str | None:
    """The name of the class that ``kind`` builds, where that has a place for all of these."""
    from ckpt_doctor.verification.names.namings import namings

    outcome = run(lambda: hollow_model(config, kind))
    for naming in namings(outcome.result) if outcome.error is None else ():
        there = {key: target.shape for key, target in naming.targets.items()}
        if all(there.get(name) == size for name, size in shapes.items()):
            return type(outcome.result).__name__
    return None
