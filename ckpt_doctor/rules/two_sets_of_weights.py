"""CKD209."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from ckpt_doctor.analysis.sharding import ending_of, indexed_shards, numbered_sets
from ckpt_doctor.core.actions import SetAside
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Fix, Severity
from ckpt_doctor.core.parts import Part, ShardIndex
from ckpt_doctor.core.policy import Policy
from ckpt_doctor.core.weight_file import WeightFile
from ckpt_doctor.core.wording import counted, listed
from ckpt_doctor.knowledge.embeddings import EMBEDDINGS

from ._kit.copies import Copies, compare
from ._kit.rule import Rule

# Older versions saved these, every model of transformers computes them by itself, and none of them was trained.
_MADE_ANEW = re.compile(r"(rotary_emb\.inv_freq|(^|\.)position_ids)$")


class _Sets(NamedTuple):
    """A whole file and the shards beside it, with the index that lists these, if one does."""

    single: WeightFile
    shards: tuple[WeightFile, ...]
    listed_by: ShardIndex | None


class TwoSetsOfWeights(Rule):
    """One whole file and a set of shards lie side by side, and loaders disagree on which of them is the model.

    ## What it does
    Looks for a single weight file, such as `model.safetensors`, beside shards of the same model in the same format. It
    compares names, shapes and dtypes, and with `--deep` the values. It is an error where they differ, and a note where
    they are equal or where only the values could tell and were not read. It is a warning where nothing but the dtype
    differs, where the shards have no index, and for diffusers, whose loader reads the shards.

    ## Why is this bad?
    transformers reads the single file and never looks at the index, whichever of the two is newer, and so do most
    tools. `huggingface_hub.load_torch_model` and diffusers read the shards. A second save that needs shards leaves the
    first one's single file where it is, so `from_pretrained` silently gives the weights of the earlier save.

    ## Example
    `model.save_pretrained(path)`, and a day later `model.save_pretrained(path, max_shard_size="5GB")`.

    ## What to do
    Find out which of the two you want, and move the other away.

    ## Fix safety
    Unsafe: the single file is set aside, though it may be the one that you want. transformers and diffusers remove
    shards when they save a single file, so where both are there the shards are mostly the later save. If all values are
    equal, nothing is lost. There is no fix where a shard is missing or damaged, or where only the values can tell and
    were not compared (`--deep`).

    ## References
    huggingface/transformers#31544
    """

    code = "CKD209"
    name = "two-sets-of-weights"
    severity = Severity.ERROR
    needs = "headers, and tensor bytes to compare"
    fix = "unsafe"

    def check(self, checkpoint: Checkpoint, policy: Policy) -> Iterator[Finding]:
        """See :meth:`Rule.check`."""
        for part in checkpoint.parts_with("model"):
            for sets in _both(part):
                yield self._report(checkpoint, policy, part, sets)

    def _report(self, checkpoint: Checkpoint, policy: Policy, part: Part, sets: _Sets) -> Finding:
        single, shards = sets.single, sets.shards
        message = (
            f"{single.path} and {counted(len(shards), 'shard')} ({listed((file.path for file in shards), 1)}) both "
            f"exist. {_who_reads_what(sets)} "
        )
        unknown = [file.path for file in (single, *shards) if not file.readable]
        result = None if unknown else _compared(part, sets)
        if result is None:
            message += f"They cannot be compared: {listed(unknown, 1)} is damaged."
        elif not result.agree:
            message += f"They differ: {result.differences(single.path, 'the shards')}. Keep the set you want."
        elif result.all_compared:
            message += f"They agree in all values of {counted(result.common, 'tensor')}. Keep one of them."
        else:
            message += (
                f"They agree in names, shapes and dtypes of {counted(result.common, 'tensor')}. Use --deep to compare "
                "the values."
            )
        return self.finding(
            message,
            path=single.path,
            tensors=() if result is None else result.names,
            evidence={
                "single": single.path,
                "shards": [file.path for file in shards[:100]],
                "index": None if sets.listed_by is None else sets.listed_by.path,
                "agree": None if result is None else result.agree,
                "values_compared": 0 if result is None else result.compared,
            },
            severity=_severity(sets, result),
            fix=self._fix(checkpoint, policy, sets, result),
        )

    def _fix(self, checkpoint: Checkpoint, policy: Policy, sets: _Sets, result: Copies | None) -> Fix | None:
        """Set the single file aside; not where that might leave less than there is, or where nothing is known."""
        if result is None or sets.listed_by is None or result.only_first or (result.agree and not result.all_compared):
            return None
        return self.repair(
            checkpoint,
            f"keep the shards and set {sets.single.path} aside",
            [SetAside(sets.single.path)],
            unsafe=True,
            deep=policy.deep,
        )


def _both(part: Part) -> Iterator[_Sets]:
    """The format that loaders read, where the part is there both ways in it, with every shard.

    What lies there in another format besides is another rule's finding (CKD204).
    """
    for expected in part.expected_files:
        if not any(file.path.endswith(expected[expected.rindex(".") :]) for file in part.preferred):
            continue
        ending = expected[expected.rindex(".") :]
        single = next((file for file in part.files if file.path == expected), None)
        found = None if single is None else _shards(part, single, ending)
        if single is not None and found is not None:
            shards, index = found
            yield _Sets(single, shards, index)


def _shards(part: Part, single: WeightFile, ending: str) -> tuple[tuple[WeightFile, ...], ShardIndex | None] | None:
    for shards in indexed_shards(part):
        # An index of the single file alone is how some tools write every model.
        if ending_of(shards.index) == ending and shards.present and single.path not in shards.listed:
            return None if shards.missing else (tuple(shards.present.values()), shards.index)
    for numbered in numbered_sets(part.files):
        if numbered.ending.endswith(ending) and not numbered.missing:
            return numbered.files, None
    return None


def _compared(part: Part, sets: _Sets) -> Copies:
    result = compare([sets.single], sets.shards)
    config = part.config.data if part.config is not None else None
    tied = config is not None and config.get("tie_word_embeddings", True) is not False
    return result.without(
        name
        for name in (*result.only_first, *result.only_second)
        # Where the embeddings are tied, a writer may leave out either name.
        if _MADE_ANEW.search(name) or (tied and name.endswith(EMBEDDINGS))
    )


def _severity(sets: _Sets, result: Copies | None) -> Severity:
    if result is None or result.agree:
        return Severity.NOTE
    sure = result.surely_differ and sets.listed_by is not None and not _of_diffusers(sets)
    return Severity.ERROR if sure else Severity.WARNING


def _of_diffusers(sets: _Sets) -> bool:
    return sets.single.path.rpartition("/")[2].startswith("diffusion_")


def _who_reads_what(sets: _Sets) -> str:
    name = sets.single.path.rpartition("/")[2]
    if sets.listed_by is None:
        return f"transformers reads {name}. No index lists the shards, so no loader finds them."
    if _of_diffusers(sets):
        return f"diffusers reads the shards; other tools read {name}."
    return f"transformers reads {name}, even where the shards are newer; huggingface_hub's loader reads the shards."
