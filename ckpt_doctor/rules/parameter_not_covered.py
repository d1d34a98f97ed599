"""CKD003."""

from __future__ import annotations

from collections.abc import Sequence

from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.wording import counted, listed

from ._kit.load_rule import LoadRule, Step

SAVE_AGAIN = Step("Save it again from the training run, or give the model that it was saved from.")
"""What to do where every tensor of the file has a place: then the file itself is what falls short."""


class ParameterNotCovered(LoadRule):
    """A parameter that belongs to the checkpoint's part of the model, and that the checkpoint does not hold.

    ## What it does
    Looks at all that PEFT saves of the loaded adapter and at the modules that the layout names (projections, latents,
    and in a whole MemGen the trigger's `output_layer`). For a whole model, looks at all parameters and saved
    statistics, such as the `running_mean` of a batch normalisation. Tied parameters count once. Other parameters are
    left alone, whether they require gradients or not.

    ## Why is this bad?
    They stay at their initial values, and the evaluation measures a mixture.

    ## Example
    `projections.pt` was not copied together with the adapter, or one shard of a model was lost and the index was
    rebuilt without it.

    ## What to do
    Save the checkpoint again from the training run, or load it into the model that it was trained in: more layers,
    more target modules or another rank would show up here too.
    """

    code = "CKD003"
    name = "parameter-not-covered"
    severity = Severity.ERROR

    def report(self, parameters: Sequence[str], owner: str, step: Step) -> Finding:
        """``parameters`` of ``owner`` (the model, one of its adapters) have no tensor in the checkpoint."""
        message = f"{counted(len(parameters), 'parameter')} of {owner} ({listed(parameters)}) "
        if len(parameters) == 1:
            message += "is not in the checkpoint, and keeps its initial value."
        else:
            message += "are not in the checkpoint, and keep their initial values."
        message = f"{message} {step.text}".rstrip()
        return self.finding(message, tensors=parameters, evidence=step.evidence)
