"""CKD208."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.parts import ConfigFile
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.weight_file import WeightFile
from ckpt_doctor.core.wording import counted, listed

from ._kit.rule import Rule, documents

_FINAL = r"(?P<final>[^/]+?\.(?:safetensors|bin|pt|pth|ckpt|json))"
# Names that savers, copiers and downloaders give to a file until it is whole. Locks and metadata of a download are
# none of these: they lie beside healthy files too.
_TEMPORARY = (
    rf"\.?{_FINAL}\.(?:[\w-]+\.)?(?:(?:tmp|temp)[\w.-]*|incomplete|part|partial|filepart|crdownload|download|aria2)",
    rf"\.?(?:tmp|temp)[-_.]{_FINAL}",
    # rsync: a dot in front and six random letters behind.
    rf"\.{_FINAL}\.[A-Za-z0-9]{{6}}",
)
# Python's tempfile: such a name does not say what the file was to become.
_NAMELESS = r"tmp[a-z0-9_]{8}"
_NUMBERED = r".*-\d+-of-\d+\.\w+"
_STAGING_FOLDER = r"tmp-checkpoint-\d+"


class SaveInterrupted(Rule):
    """The save, copy or download of this checkpoint did not end.

    ## What it does
    Looks for files under the names that savers, copiers and downloaders use until a file is whole: `*.tmp`,
    `*.incomplete`, `*.part`, rsync's `.name.XXXXXX`. It is an error if the file that should have come of it is absent
    or damaged, and a note if it is there and whole. Shards of 0 bytes are reported, and so is the staging folder
    `tmp-checkpoint-500` of transformers' Trainer, and a training run's checkpoint that holds no weights at all. MemGen
    writes its files one after the other: a folder that has the first ones and none of the others is an unfinished save.
    So is a checkpoint `NAME` of NeMo with `NAME-unfinished` beside it, and a set of verl's files
    `model_world_size_8_rank_0.pt` that lacks some of its ranks. In the folder of a run,
    `latest_checkpointed_iteration.txt` (verl, Megatron) and DeepSpeed's `latest` name the newest save; it is an error
    if that save is missing. An older save that is asked for by its own path is not blamed for it.

    ## Why is this bad?
    Some parts are of the new save, others of the old one or not there at all. A script that takes the newest folder
    takes this one.

    ## Example
    The job ran into its time limit, or the disk was full, while the checkpoint was saved.

    ## What to do
    Use the checkpoint before this one, or copy again. Remove the temporary file when it is no longer needed.
    """

    code = "CKD208"
    name = "save-interrupted"
    severity = Severity.ERROR

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        folder = checkpoint.root.name
        if re.fullmatch(_STAGING_FOLDER, folder):
            yield self.finding(
                f"transformers' Trainer writes a checkpoint in {folder} and renames it to "
                f"{folder.removeprefix('tmp-')} when the save is complete. This save did not complete: use an earlier "
                "checkpoint."
            )
        # An index may list hundreds of shards; the ones that are there and the empty ones are one save.
        empty = [
            file.path
            for part in checkpoint.parts
            if not part.auxiliary
            for file in part.files
            if file.nbytes == 0 and re.fullmatch(_NUMBERED, file.path)
        ]
        if empty:
            yield self.finding(
                f"{counted(len(empty), 'shard is', 'shards are')} empty: {listed(empty)}. The save did not complete: "
                "use an earlier checkpoint or copy the shards again.",
                path=empty[0],
                evidence={"empty": empty[:100]},
            )
        for part in checkpoint.parts_with("model"):
            if part.expected_files and not part.files and not part.indexes:
                wanted = " and no ".join(part.expected_files)
                yield self.finding(
                    f"The checkpoint has no weights (no {wanted}), but its other files are there. The save did not "
                    "complete: use an earlier checkpoint.",
                    path=part.expected_files[0],
                    evidence={"expected": list(part.expected_files)},
                )
        for statement in checkpoint.unfinished:
            yield self.finding(f"{statement}. Use an earlier checkpoint, or copy this one again.")
        yield from self._stopped(checkpoint)
        yield from self._temporaries(checkpoint)

    def _stopped(self, checkpoint: Checkpoint) -> Iterator[Finding]:
        """A save in a known order, where every file from some point on is absent or the last one is damaged."""
        if not checkpoint.kind.in_order or any(checkpoint.parts_with("model")):
            return
        steps = list(_steps(checkpoint))
        there = [path for path, file in steps if file is not None]
        absent = [path for path, file in steps if file is None]
        if not there or not absent or [path for path, _ in steps] != there + absent:
            return
        last = next(file for path, file in steps if path == there[-1])
        after = f"in the middle of {there[-1]}" if _is_damaged(last) else f"after {there[-1]}"
        yield self.finding(
            f"The save stopped {after}. {checkpoint.kind.trainer} writes {counted(len(absent), 'file')} after that, "
            f"but none of them exists: {listed(absent)}. Use an earlier checkpoint, or save again from the training "
            "run.",
            path=there[-1],
            evidence={"written": there, "absent": absent},
        )

    def _temporaries(self, checkpoint: Checkpoint) -> Iterator[Finding]:
        sizes = {other.path: other.nbytes for other in checkpoint.others}
        sizes.update({file.path: file.nbytes for part in checkpoint.parts_with("extra") for file in part.files})
        for path, nbytes in sorted(sizes.items()):
            folder, slash, base = path.rpartition("/")
            found = next((match for pattern in _TEMPORARY if (match := re.fullmatch(pattern, base))), None)
            if found is not None:
                final = f"{folder}{slash}{found['final']}"
                severity, state = _judge(checkpoint, folder, final)
                yield self.finding(
                    f"This is a temporary file of {nbytes:,} bytes for {final}, which is {state}. " + _advice(severity),
                    path=path,
                    evidence={"final": final, "bytes": nbytes},
                    severity=severity,
                )
            elif re.fullmatch(_NAMELESS, base):
                severity = Severity.NOTE if _loadable(checkpoint, folder) else Severity.ERROR
                yield self.finding(
                    f"This is a temporary file of {nbytes:,} bytes. {_advice(severity)}",
                    path=path,
                    evidence={"bytes": nbytes},
                    severity=severity,
                )


def _steps(checkpoint: Checkpoint) -> Iterator[tuple[str, WeightFile | ConfigFile | None]]:
    """The files of the save in the order in which they are written, each with what is there of it.

    So ``MemGenModel.save_pretrained`` of KANABOON1/MemGen does it: the config, then part by part. PEFT writes an
    adapter's weights first and its config after them.
    """
    if checkpoint.kind.config:
        yield checkpoint.kind.config, checkpoint.config
    for part in checkpoint.parts:
        if part.auxiliary or part.secondary or not part.required:
            continue
        yield part.files[0].path if part.files else part.expected_files[0], part.files[0] if part.files else None
        if part.config_expected is not None:
            yield part.config_expected, part.config


def _is_damaged(file: WeightFile | ConfigFile | None) -> bool:
    return bool(file.error) if isinstance(file, ConfigFile) else file is not None and bool(file.defects)


def _judge(checkpoint: Checkpoint, folder: str, final: str) -> tuple[Severity, str]:
    """How bad a temporary file is, by the state of the file that it was to become."""
    for file in checkpoint.files:
        if file.path == final:
            return (Severity.ERROR, "damaged") if file.defects else (Severity.NOTE, "there and whole")
    for document in documents(checkpoint):
        if document.path == final:
            return (Severity.ERROR, "damaged") if document.error else (Severity.NOTE, "there and whole")
    if any(other.path == final for other in checkpoint.others):
        return Severity.NOTE, "there"
    base = final.rpartition("/")[2]
    if base.endswith(".json") and not base.endswith(("config.json", ".index.json")):
        return Severity.NOTE, "absent"
    # A model that loads without the file needs it no longer; a set of shards needs every one.
    if _loadable(checkpoint, folder) and not re.fullmatch(_NUMBERED, base):
        return Severity.WARNING, "absent, though other weights are there"
    return Severity.ERROR, "absent"


def _loadable(checkpoint: Checkpoint, folder: str) -> bool:
    """Whether whole weights of an adapter or a model lie in this folder."""
    parts = checkpoint.parts_with("adapter", "model", "file")
    found = [file for part in parts for file in part.preferred if file.path.rpartition("/")[0] == folder]
    return bool(found) and not any(file.defects for file in found)


def _advice(severity: Severity) -> str:
    if severity is Severity.ERROR:
        return "The save did not complete: use an earlier checkpoint, or copy it again."
    return "Remove it if no save or copy is running."
