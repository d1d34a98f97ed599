"""Parameters and statistics that the checkpoint should hold and does not: CKD003."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding
from ckpt_doctor.rules._kit.load_rule import Step
from ckpt_doctor.rules.parameter_not_covered import SAVE_AGAIN, ParameterNotCovered
from ckpt_doctor.verification.model.live import LiveModel, Place, place, plain_name
from ckpt_doctor.verification.model.loads import load_of
from ckpt_doctor.verification.names.matching import PartMatch

from .evidence import Evidence
from .steps import next_steps

if TYPE_CHECKING:
    import torch
    from torch import nn


class Gap(NamedTuple):
    """Parameters of ``owner`` that the checkpoint should hold and does not."""

    parameters: list[str]
    owner: str


def uncovered(evidence: Evidence, matches: list[PartMatch], *, advise: bool) -> Iterator[Finding]:
    """CKD003, with what to do about it where ``advise`` is set."""
    for number, gap in enumerate(_gaps(evidence, matches)):
        # What can be said about names belongs to the first.
        step = next_steps(matches, evidence.shown_folder) if advise and number == 0 else Step()
        if advise and not step.text:
            step = SAVE_AGAIN
        yield ParameterNotCovered().report(gap.parameters, gap.owner, step)


def _gaps(evidence: Evidence, matches: list[PartMatch]) -> Iterator[Gap]:
    """What lacks of the adapters that were loaded, of the modules that the layout names, and of whole models.

    Where the model was not built for this checkpoint, a part of it of which the checkpoint has nothing, such as a new
    head, is left alone.
    """
    live, checkpoint = evidence.live, evidence.checkpoint
    held = _held(matches, live.tensors)
    for match in matches:
        if match.part.role == "adapter" and not match.part.secondary and match.naming.adapter is not None:
            names = _of_adapter(match, live.tensors, held, exact=evidence.exact)
            if names:
                yield Gap(names, f"the adapter {match.naming.adapter!r}")
    named = list(_of_layout(checkpoint, live, held))
    if named:
        yield Gap(named, "the modules that belong to the checkpoint")
    if checkpoint.kind.covers == "model" and any(match.targets for match in matches):
        whole = evidence.whole or _is_what_was_saved(live.module, checkpoint)
        names = _of_model(live, held, whole=whole)
        names += [name for match in matches for name in _slices_left_out(match)]
        if names:
            yield Gap(names, "the model")


def _held(matches: Iterable[PartMatch], tensors: Mapping[str, torch.Tensor]) -> set[Place]:
    """Where the parameters lie that the checkpoint has tensors for."""
    names = (name for match in matches for target in match.targets.values() for name in target.names)
    return {place(tensors[name]) for name in names if name in tensors}


def _is_what_was_saved(model: nn.Module, checkpoint: Checkpoint) -> bool:
    """True if the model is of the class that the checkpoint's config names: then a head of its own is no new one."""
    for part in checkpoint.parts_with("model"):
        named = (part.config.data or {}).get("architectures") if part.config is not None else None
        if isinstance(named, list) and type(model).__name__ in named:
            return True
    return False


def _of_adapter(part: PartMatch, tensors: dict[str, torch.Tensor], held: set[Place], *, exact: bool) -> list[str]:
    hit = {id(target) for target in part.targets.values()}
    names = []
    for key in sorted(part.naming.owns):
        target = part.naming.targets[key]
        # Of a pair that is computed from the same parameters, one alone is not enough; nor is one of two tied modules,
        # which PEFT asks for by their names.
        alone = target.computed or (exact and ".modules_to_save." in target.name)
        elsewhere = not alone and any(place(tensors[name]) in held for name in target.names)
        if id(target) not in hit and not elsewhere:
            names.append(target.name)
    return names


def _of_layout(checkpoint: Checkpoint, live: LiveModel, held: set[Place]) -> Iterator[str]:
    """The entries that the layout says a side file must have, as far as the model has parameters of these names.

    Only MemGen's names are known to mean nothing else: a team's own head may have a ``weight``, as every module has.
    """
    if not load_of(checkpoint).entries_are_unique:
        return
    entries = {
        entry.name
        for part in checkpoint.parts
        if part.role not in ("adapter", "file") and not part.secondary
        for entry in part.entries
        if entry.required
    }
    for name in sorted(live.parameters):
        own = plain_name(name)
        fits = any(own == entry or own.endswith(f".{entry}") for entry in entries)
        if fits and place(live.tensors[name]) not in held:
            yield name


def _slices_left_out(part: PartMatch) -> Iterator[str]:
    """What the checkpoint lacks of fused parameters that it has other slices of, such as single experts of a layer."""
    hit = {id(target) for target in part.targets.values()}
    whole = {target.name for target in part.targets.values() if target.whole}
    for naming in part.namings:
        begun = {name for target in naming.targets.values() if id(target) in hit for name in target.names} - whole
        for key, target in naming.targets.items():
            if id(target) not in hit and target.trained and not begun.isdisjoint(target.names):
                yield key


def _of_model(live: LiveModel, held: set[Place], *, whole: bool) -> list[str]:
    model, tensors = live.module, live.tensors
    ignored = [re.compile(pattern) for pattern in getattr(model, "_keys_to_ignore_on_load_missing", None) or ()]
    unsaved = set(getattr(model, "_keys_to_ignore_on_save", None) or ())
    covered = {name.partition(".")[0] for name, value in tensors.items() if place(value) in held}
    names = []
    seen: set[Place] = set()
    for name in sorted(tensors):
        # Statistics are learnt as parameters are; a count of batches or a table of positions is not.
        if name in unsaved or not (name in live.parameters or tensors[name].is_floating_point()):
            continue
        where = place(tensors[name])
        if where in held or where in seen or any(pattern.search(name) for pattern in ignored):
            continue
        seen.add(where)
        if whole or name.partition(".")[0] in covered:
            names.append(name)
    return names
