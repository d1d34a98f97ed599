"""CKD001."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.wording import counted, listed

from ._kit.load_rule import LoadRule, Step


class Loss(NamedTuple):
    """The ``tensors`` of one ``part`` that did not arrive, by name; ``path`` is the file of the first.

    ``untouched`` counts the parameters for them that the load did not write to, ``quantised`` those that hold packed
    integers. ``elsewhere`` are tensors whose values are in a parameter of another name, each with that parameter.
    ``unadapted`` says that the part is an adapter and the model has none. ``reason`` is what all of them have in
    common, where more is known than that they are absent.
    """

    part: str
    path: str
    tensors: Sequence[str]
    untouched: int = 0
    quantised: int = 0
    elsewhere: Sequence[tuple[str, str]] = ()
    unadapted: bool = False
    reason: str = ""


class TensorNotRestored(LoadRule):
    """A tensor of the checkpoint whose values are nowhere in the loaded model.

    ## What it does
    After the load, compares every tensor of the checkpoint with the parameter that bears its name, once the adapter's
    name, wrapper prefixes and the renames of transformers are taken into account. Where no name fits, the values are
    searched among all parameters of the same shape.

    ## Why is this bad?
    Nothing fails. The model runs with what was there before: a random initialisation, or an adapter that does nothing.

    ## Example
    `projections.pt` lies beside the adapter, and the evaluation's loader never opens it.

    ## What to do
    Look at the loader that was verified: which names does it look up, and what does it do with the keys that it does
    not find? `model.load_state_dict(state, strict=False)` returns them; do not throw them away.
    """

    code = "CKD001"
    name = "tensor-not-restored"
    severity = Severity.ERROR

    def report(self, loss: Loss, step: Step) -> Finding:
        """The finding about one part of the checkpoint."""
        message = " ".join(filter(None, (*_sentences(loss), step.text)))
        return self.finding(message, path=loss.path, tensors=loss.tensors, evidence=step.evidence)


def _sentences(loss: Loss) -> Iterator[str]:
    yield _what_is_lost(loss)
    if loss.elsewhere:
        name, parameter = loss.elsewhere[0]
        yield (
            f"The values of {len(loss.elsewhere)} are in a parameter that others of its shape are named as well for "
            f"({name} in {parameter}): values alone cannot tell whether the model wants them there."
        )
    if loss.untouched:
        yield (
            f"{counted(loss.untouched, 'parameter')} for them {_was(loss.untouched)} not written to: the loader did "
            "not open the file, or did not find the names."
        )
    if loss.quantised:
        yield (
            f"{counted(loss.quantised, 'parameter')} {_is(loss.quantised)} quantised, so that nothing can be said "
            "about the values: judge the load of a model that is not."
        )
    if loss.unadapted:
        yield (
            "The model has no PEFT adapter in it: the loader put none there, or merged it into the base, which can "
            "only be proved where --model makes that base: return the model before merge_and_unload()."
        )


def _what_is_lost(loss: Loss) -> str:
    count = len(loss.tensors)
    start = f"{counted(count, 'tensor')} of the {loss.part} ({listed(loss.tensors)}) {_is(count)}"
    if loss.reason:
        return f"{start} not restored: {loss.reason}."
    return f"{start} {'not where names say' if loss.elsewhere else 'nowhere'} in the loaded model."


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def _was(count: int) -> str:
    return "was" if count == 1 else "were"
