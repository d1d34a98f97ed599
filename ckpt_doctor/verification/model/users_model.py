"""A plan around the user's own model, for any kind of checkpoint."""

from __future__ import annotations

from typing import Any

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.errors import VerificationError
from ckpt_doctor.runtime.dependencies import require
from ckpt_doctor.verification.hosting.specs import UserCode

from .plan import Load, Plan


def plan_of_users_model(spec: UserCode, checkpoint: Checkpoint, load: Load) -> Plan:
    """The model that ``spec`` builds, and the ecosystem's own loader for ``checkpoint``."""

    def build() -> Any:
        model = spec(str(checkpoint.root)) if spec.takes_path else spec()
        if not hasattr(model, "named_parameters"):
            raise VerificationError(f"{spec.name} returned {type(model).__name__}, not a torch.nn.Module")
        return model

    def hollow() -> Any:
        torch = require("torch")
        if spec.takes_path:
            raise VerificationError(f"{spec.name} loads by itself, which needs memory: use --mode load")

        def on_meta() -> Any:
            with torch.device("meta"):
                return build()

        return load.hollow(on_meta, checkpoint)

    def refuse(model: Any) -> None:
        load.refuse(model, checkpoint)

    return Plan(
        spec.name, build, hollow, lambda model: load.into(model, checkpoint), spec.file, ours=False, refuse=refuse
    )
