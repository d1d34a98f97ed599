"""CKD001."""

from __future__ import annotations

from ckpt_doctor.core.findings import Severity

from ._kit.rule import LoadRule


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
