"""Which files of a checkpoint are converted, which are copied, and what they will be called."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ckpt_doctor.analysis.sharding import ending_of, indexed_shards, numbered_sets, with_siblings
from ckpt_doctor.core.actions import SharedChoice, SharedUse, TargetFormat
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.errors import ConversionError, NoCheckpointError
from ckpt_doctor.core.layout import Layout
from ckpt_doctor.core.parts import Part, ShardIndex
from ckpt_doctor.core.weight_file import WeightFile
from ckpt_doctor.core.wording import listed
from ckpt_doctor.knowledge.weight_names import ENDINGS, converted_index, converted_name
from ckpt_doctor.layouts import discover

_CONVERTED_ROLES = ("adapter", "model", "file")


@dataclass(frozen=True, slots=True)
class Job:
    """One file that is to be written. ``shared`` is what becomes of aliases where ``converts`` is set."""

    source: Path
    target: Path
    converts: bool
    shared: SharedUse = "clone"


@dataclass(frozen=True, slots=True)
class IndexJob:
    """A shard index that is to be written for the converted ``shards``: old path to job, relative to the checkpoint."""

    index: ShardIndex
    source: Path
    target: Path
    shards: dict[str, Job]


@dataclass(slots=True)
class Jobs:
    """All work of one conversion; ``make_folder`` is the folder that holds the result, where it is another one."""

    files: list[Job] = field(default_factory=list)
    indexes: list[IndexJob] = field(default_factory=list)
    already: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    make_folder: Path | None = None


def plan_jobs(
    source: Path, target: Path | None, to: TargetFormat, shared: SharedChoice | None, layouts: Sequence[Layout] = ()
) -> Jobs:
    """What converting ``source`` means. Reads headers where it is a folder. ``layouts`` are those of a team.

    Raises ``PathNotFoundError``, ``NoCheckpointError`` and ``ConversionError``.
    """
    if not os.path.lexists(source) or source.is_dir() or source.name.endswith(".json"):
        return _whole(discover(source, layouts=layouts), source, target, to, shared)
    return _lone(source, target, to, shared)


def _lone(source: Path, target: Path | None, to: TargetFormat, shared: SharedChoice | None) -> Jobs:
    name = converted_name(source.name, to)
    if target is None:
        target = source.with_name(name)
    elif target.is_dir():
        target = target / name
    other = next(endings for kind, endings in ENDINGS.items() if kind != to)
    if target.name.endswith(other):
        raise ConversionError(f"{target} would be a {to} file: give it a name that ends in {ENDINGS[to][0]}")
    return Jobs(files=[Job(source, target, converts=True, shared=shared or "clone")])


def _whole(
    checkpoints: list[Checkpoint], source: Path, target: Path | None, to: TargetFormat, shared: SharedChoice | None
) -> Jobs:
    roots = {os.path.abspath(checkpoint.root) for checkpoint in checkpoints}
    if len(roots) > 1:
        own = [item for item in checkpoints if os.path.abspath(item.root) == os.path.abspath(source)]
        if not own:
            paths = listed(item.path for item in checkpoints)
            raise NoCheckpointError(f"{source} holds {len(checkpoints)} checkpoints ({paths}): name one of them")
        checkpoints = own
    root = checkpoints[0].root
    elsewhere = target is not None and os.path.abspath(target) != os.path.abspath(root)
    if target is not None and os.path.lexists(target) and not target.is_dir():
        raise ConversionError(f"{target} is a file, and {source} is a whole checkpoint: name a folder")
    work = _Work(root, target if target is not None and elsewhere else root, to, shared)
    for checkpoint in checkpoints:
        work.add(checkpoint)
    jobs = work.jobs
    if target is not None and elsewhere:
        jobs.make_folder = target
        for checkpoint in checkpoints:
            work.take_along(checkpoint)
    # A folder can be two checkpoints at once, which then share files.
    jobs.files = list({(job.source, job.target): job for job in jobs.files}.values())
    jobs.indexes = list({job.target: job for job in jobs.indexes}.values())
    return jobs


class _Work:
    """Jobs in the making, for the checkpoints of one root."""

    def __init__(self, root: Path, target: Path, to: TargetFormat, shared: SharedChoice | None) -> None:
        self.root = root
        self.target = target
        self.to = to
        self.shared = shared
        self.jobs = Jobs()
        self.settled: set[str] = set()  # what has a job already, or is replaced by what has the other format

    def add(self, checkpoint: Checkpoint) -> None:
        """Add a job for every file of the checkpoint that has the other format."""
        for part in checkpoint.parts:
            if part.role in _CONVERTED_ROLES:
                self._add_part(checkpoint, part)

    def _add_part(self, checkpoint: Checkpoint, part: Part) -> None:
        ready = [file for file in part.files if self._is_ready(file)]
        rest = [file for file in part.files if not self._is_ready(file)]
        if not part.files:
            raise ConversionError(f"{checkpoint.path}: the {part.name} has no weights")
        if ready and rest and self.target != self.root:
            ready, rest = self._read_here(part, ready, rest)
        if not rest:
            if self.target != self.root:
                _refuse_incomplete(checkpoint, part, ready)
                # Not mere copies: they are opened like what is converted, which refuses the damaged and the hostile.
                self.jobs.files += [Job(self.root / file.path, self.target / file.path, True) for file in ready]
            self.jobs.already += [str(self.root / file.path) for file in ready]
            self.settled |= {file.path for file in part.files}
            self.settled |= {index.path for index in part.indexes if ending_of(index) not in ENDINGS[self.to]}
            return
        _refuse_incomplete(checkpoint, part, rest)
        shared: SharedUse = self.shared or ("tied" if _ties_embeddings(checkpoint, part) else "clone")
        by_path: dict[str, Job] = {}
        for file in rest:
            path = _renamed(file.path, lambda name: converted_name(name, self.to))
            by_path[file.path] = Job(self.root / file.path, self.target / path, converts=True, shared=shared)
            self.settled.add(file.path)
        self.jobs.files += by_path.values()
        for shards in indexed_shards(part):
            index = shards.index
            if ending_of(index) not in ENDINGS[self.to] and any(path in by_path for path in shards.listed):
                self.settled.add(index.path)
                target = self.target / _renamed(index.path, lambda name: converted_index(name, self.to))
                listed_jobs = {path: by_path[path] for path in with_siblings(part, shards) if path in by_path}
                self.jobs.indexes.append(IndexJob(index, self.root / index.path, target, listed_jobs))

    def _read_here(
        self, part: Part, ready: list[WeightFile], rest: list[WeightFile]
    ) -> tuple[list[WeightFile], list[WeightFile]]:
        """Of two sets of weights, the files that a loader reads. Only these belong in the other folder."""
        read = {file.path for file in part.preferred}
        self.settled |= {file.path for file in part.files}
        converted = [file for file in rest if file.path in read]
        if not converted:
            return ready, []
        copied = [file for file in ready if file.path in read]
        self.jobs.files += [Job(self.root / file.path, self.target / file.path, True) for file in copied]
        if not copied:
            self.settled |= {index.path for index in part.indexes if ending_of(index) in ENDINGS[self.to]}
        return copied, converted

    def _is_ready(self, file: WeightFile) -> bool:
        """True if a file has the wanted format and a name that says so."""
        named = file.path.endswith(ENDINGS[self.to])
        # What cannot be read is judged by its name, so one that is to be converted is refused with the reason.
        return named and (not file.is_known or (file.is_safetensors) == (self.to == "safetensors"))

    def take_along(self, checkpoint: Checkpoint) -> None:
        """Add a copy of everything else that the checkpoint needs to be one in the other folder."""
        for path in dict.fromkeys(self._others(checkpoint)):
            if path not in self.settled:
                self.jobs.files.append(Job(self.root / path, self.target / path, converts=False))

    def _others(self, checkpoint: Checkpoint) -> Iterator[str]:
        for part in checkpoint.parts:
            if part.role == "training-state":
                self.jobs.left_out += [str(self.root / file.path) for file in part.files]
                continue
            yield from (file.path for file in part.files)
            yield from (index.path for index in part.indexes)
            if part.config is not None:
                yield part.config.path
        if checkpoint.config is not None:
            yield checkpoint.config.path
        yield from (other.path for other in checkpoint.others if (self.root / other.path).is_file())


def _refuse_incomplete(checkpoint: Checkpoint, part: Part, files: Iterable[WeightFile]) -> None:
    """Raise where the converted weights would look whole and are not."""
    paths = {file.path for file in files}
    for index in part.indexes:
        if index.error or index.escaping:
            reason = index.error or f"it names {listed(index.escaping)}, outside of its folder (CKD905)"
            raise ConversionError(f"{checkpoint.root / index.path} is refused: {reason}")
    for shards in indexed_shards(part):
        if any(path in paths for path in shards.listed):
            if shards.missing:
                raise ConversionError(f"{checkpoint.path}: shards are missing: {listed(shards.missing)} (CKD701)")
            if shards.absent:
                raise ConversionError(
                    f"{checkpoint.root / shards.index.path} lists tensors that no shard holds: "
                    f"{listed(shards.absent)} (CKD702)"
                )
    for numbered in numbered_sets(files):
        if numbered.missing:
            raise ConversionError(f"{checkpoint.path}: shards are missing: {listed(numbered.missing)} (CKD701)")


def _ties_embeddings(checkpoint: Checkpoint, part: Part) -> bool:
    """True if this is a whole transformers model whose ``config.json`` says that its embeddings are tied."""
    config = part.config.data if part.config is not None else None
    if checkpoint.kind.covers != "model" or part.role != "model" or config is None:
        return False
    text = config.get("text_config")
    sections = (config, text if isinstance(text, dict) else {})
    return any(section.get("tie_word_embeddings") is True for section in sections)


def _renamed(path: str, rename: Callable[[str], str]) -> str:
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{rename(name)}"
