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
    name, wrapper prefixes and the renames of transformers are taken into account. If no name fits, the values are
    searched among all parameters of the same shape.

    ## Why is this bad?
    Nothing fails. The model runs with what was there before: a random initialisation, or an adapter that does nothing.

    ## Example
    `projections.pt` is next to the adapter, but the evaluation's loader never opens it.

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
            f"The values of {len(loss.elsewhere)} are in a parameter of another name ({name} in {parameter}), and "
            "other parameters of this shape fit as well: values alone do not show that they belong there."
        )
    if loss.untouched:
        yield (
            f"The loader did not write the {counted(loss.untouched, 'parameter')} for them: it did not open the file, "
            "or did not find the names."
        )
    if loss.quantised:
        yield (
            f"{counted(loss.quantised, 'parameter')} {_is(loss.quantised)} quantised, and quantised values cannot be "
            "compared: judge the load of a model that is not quantised."
        )
    if loss.unadapted:
        yield (
            "The model has no PEFT adapter: the loader did not add one, or merged it into the base. A merged adapter "
            "can only be proved if --model builds that base: return the model before merge_and_unload()."
        )


def _what_is_lost(loss: Loss) -> str:
    count = len(loss.tensors)
    start = f"{counted(count, 'tensor')} of the {loss.part} ({listed(loss.tensors)}) {_is(count)}"
    if loss.reason:
        return f"{start} not restored: {loss.reason}."
    return f"{start} not {'where their names say' if loss.elsewhere else 'in the loaded model'}."


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def _was(count: int) -> str:
    return "was" if count == 1 else "were"
