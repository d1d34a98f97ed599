"""CKD003."""

from __future__ import annotations

from ckpt_doctor.core.findings import Severity

from ._kit.rule import LoadRule


class ParameterNotCovered(LoadRule):
    """A parameter that belongs to the checkpoint's part of the model, and that the checkpoint does not hold.

    ## What it does
    Looks at the parameters of the adapter that was loaded and whatever else PEFT saves of it, at the modules that the
    layout names (projections, latents, and in a whole MemGen the trigger's `output_layer`), and for a whole model at
    all parameters and at the statistics that are saved with them, such as the `running_mean` of a batch normalisation.
    Tied parameters count once. Other parameters are left alone, whether they require gradients or not.

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
