"""CKD115."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.policy import Policy

from ._kit.rule import Rule


class NoTensors(Rule):
    """A weight file that can be read and holds no tensor.

    ## What it does
    Reports weight files whose list of tensors is empty. Training state is not meant: schedulers and training arguments
    beside a model hold none. A file that holds nothing at all is CKD503.

    ## Why is this bad?
    There is nothing in it that a model could load. By itself such a file is not judged: the exit code is 2.

    ## Example
    `training_args.bin`: the arguments of a run, under a name that looks like weights.

    ## What to do
    Name the file that holds the weights. If this one should, save it again: the state dict was empty.
    """

    code = "CKD115"
    name = "no-tensors"
    severity = Severity.WARNING

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for part in checkpoint.parts_with("file"):
            for file in part.files:
                # What holds nothing at all is CKD503.
                if file.readable and not file.tensors and file.values:
                    yield self.finding(
                        "The file holds no tensor, so a model cannot load anything from it. Name the file that "
                        "holds the weights.",
                        path=file.path,
                        evidence={"values": len(file.values)},
                    )
