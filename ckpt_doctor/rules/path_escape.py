"""CKD905."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.defects import Defect, DefectKind
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.weight_file import WeightFile
from ckpt_doctor.core.wording import counted, listed

from ._kit.rule import DefectRule

# huggingface_hub names a blob after its hash: SHA-1 for small files, SHA-256 for large ones.
_BLOB = re.compile(r"(\.\./)+blobs/[0-9a-f]{40}([0-9a-f]{24})?")


class PathEscape(DefectRule):
    """A name inside the checkpoint leads to a file outside of it.

    ## What it does
    Looks at the member names of archives and at the file names in an index: `..`, absolute paths and drive letters are
    reported and never followed. Symlinks that lead out of the checkpoint are a note; those of a hub cache, which lead
    to its `blobs`, are fine. `base_model_name_or_path` may name anything and is not judged here.

    ## Why is this bad?
    A checkpoint is what lies in its folder. Such a name leads to files outside the checkpoint, which were not judged.

    ## Example
    `"weight_map": {"lm_head.weight": "../other-model/model.safetensors"}`.

    ## What to do
    Do not load the checkpoint, and get it again from a source that you trust. For links: copy the checkpoint with
    `cp -rL` before it is moved to another machine.
    """

    code = "CKD905"
    name = "path-escape"
    severity = Severity.ERROR
    kinds = (DefectKind.PATH_ESCAPE,)
    advice = "Do not unpack or load it, and get it again from a source that you trust."

    def severity_in(self, part: Part, file: WeightFile, defect: Defect) -> Severity:
        """An error everywhere: whoever opens the file is at risk."""
        return self.severity

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        yield from super().check(checkpoint, policy)
        for part in checkpoint.parts:
            for index in part.indexes:
                if index.escaping:
                    names = sorted(set(index.escaping))
                    yield self.finding(
                        f"The index names {counted(len(names), 'file')} outside its folder: {listed(names)}. "
                        "This tool did not open them. Get the checkpoint again from a source that you trust.",
                        path=index.path,
                        evidence={"names": names[:20]},
                    )
        links = [other for other in checkpoint.others if other.outside and not _BLOB.fullmatch(other.link_target or "")]
        if links:
            # There may be many: one note says it.
            yield self.finding(
                f"{counted(len(links), 'symlink leads', 'symlinks lead')} out of the checkpoint: "
                f"{listed(f'{link.path} -> {link.link_target}' for link in links)}. "
                "Copy with `cp -rL` before you move it to another machine.",
                path=links[0].path,
                evidence={"links": len(links)},
                severity=Severity.NOTE,
            )
