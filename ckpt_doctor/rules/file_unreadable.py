"""CKD112."""

from __future__ import annotations

from collections.abc import Iterator

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.defects import Defect, DefectKind
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.weight_file import WeightFile
from ckpt_doctor.core.wording import counted, listed

from ._kit.rule import DefectRule, documents, sentence


class FileUnreadable(DefectRule):
    """The operating system did not let the file be read, or its bytes could not be judged.

    ## What it does
    Reports files, configs and indexes that could not be opened or read: permissions, I/O errors, a link that leads
    nowhere, a directory or a device instead of a file. With `--deep` it also reports tensors whose bytes are there but
    could not be scanned.

    ## Why is this bad?
    A file that was not read was not judged. So this finding is not silenced by `--ignore`, and it fails the run even
    with `--fail-on never`.

    ## Example
    `PermissionError: [Errno 13] Permission denied: 'adapter_model.bin'`, because another user saved the checkpoint
    with mode 600. `OSError: [Errno 5] Input/output error` from a failing disk or a network file system.

    ## What to do
    Make the file readable for this user, or repair the link or the disk, then inspect again.
    """

    code = "CKD112"
    name = "file-unreadable"
    severity = Severity.ERROR
    kinds = (DefectKind.UNREADABLE,)
    advice = "It was not judged: make the file readable and inspect again."

    def severity_in(self, part: Part, file: WeightFile, defect: Defect) -> Severity:
        """An error everywhere: nobody knows what is in the file."""
        return self.severity

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for path, error in sorted(_unreadable_json(checkpoint).items()):
            yield self.finding(f"{error} {self.advice}", path=path, always_fails=True)
        yield from super().check(checkpoint, policy)
        if policy.deep:
            for file in checkpoint.files:
                names = _not_scanned(file)
                if names:
                    yield self.finding(
                        f"The bytes of {counted(len(names), 'tensor')} were not scanned: {listed(names)}. Save the "
                        "file again with a current torch: it stores tensors uncompressed.",
                        path=file.path,
                        tensors=names,
                        always_fails=True,
                    )


def _unreadable_json(checkpoint: Checkpoint) -> dict[str, str]:
    """Path to error of every config and index that could not be read; parts may share one."""
    return {
        document.path: sentence(document.error or "it could not be read")
        for document in documents(checkpoint)
        if document.unreadable
    }


def _not_scanned(file: WeightFile) -> list[str]:
    # A file with a defect is failed by that defect, and its missing bytes are no news.
    if file.scans is None or file.defects:
        return []
    return [
        tensor.name
        for tensor in file.tensors
        if tensor.numel and tensor.storage.device != "meta" and tensor.name not in file.scans
    ]
