"""Hold the architecture tables against what transformers really saves: no finding on a save, and each damage found.

    python scripts/check_architectures.py [--types llama,bert] [--configs 3] [--seed 1] [--jobs 2]

For each type, fresh random configs that the tables were not made from; for each, its classes saved by
``save_pretrained`` and inspected: an error or warning is a false alarm. Then one key is dropped, one shape changed, and
where there are some an expert and a head and a layer dropped: each must be found under the right name. Tensors are not
initialised, because only headers are read.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.insert(0, str(Path(__file__).parents[1]))

import ckpt_doctor
from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.knowledge.architectures import known_types

_LARGEST_FILE = 60_000_000  # parameters
OURS = frozenset(("CKD303", "CKD316", "CKD317", "CKD318", "CKD320", "CKD510", "CKD513"))


class Outcome(NamedTuple):
    """What became of one model type: counts by word, and what went wrong."""

    name: str
    counts: Counter[str]
    faults: list[str]


def main() -> int:
    """Check the types that were asked for. Returns the exit status: 1 where anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--types", default="", help="only these, separated by commas")
    parser.add_argument("--configs", type=int, default=3)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    names = [name for name in options.types.split(",") if name] or list(known_types())
    total: Counter[str] = Counter()
    faults: list[str] = []
    for outcome in _outcomes(names, options.configs, options.seed, options.jobs):
        total += outcome.counts
        total["types"] += outcome.counts["saved"] > 0
        total["types judged"] += outcome.counts["judged"] > 0
        faults += outcome.faults
        print(outcome.name, dict(outcome.counts), *outcome.faults, sep="\n    ", file=sys.stderr, flush=True)
    print(*(f"{word}: {count}" for word, count in sorted(total.items())), sep="\n")
    print(*faults, sep="\n")
    return 1 if faults else 0


def _outcomes(names: list[str], configs: int, seed: str, jobs: int) -> Iterator[Outcome]:
    if jobs == 1:
        _quiet()
        yield from (check(name, configs, seed) for name in names)
        return
    with ProcessPoolExecutor(jobs, initializer=_quiet) as pool:
        for done in as_completed([pool.submit(check, name, configs, seed) for name in names]):
            yield done.result()


def check(name: str, configs: int = 3, seed: str = "1") -> Outcome:
    """Save models of one type from random configs, and inspect them whole and damaged."""
    from architectures.observing import CannotBuild, build, config_of, to_json
    from architectures.varying import Variation

    kind = _types()[name]
    outcome = Outcome(name, Counter(), [])
    for cls in kind.classes:

        def buildable(given: Mapping[str, Any], cls: Any = cls) -> bool:
            try:
                build(cls, config_of(kind.config, given))
            except CannotBuild:
                return False
            return True

        chooser = random.Random(f"{name} {cls.__name__} {seed}")
        variation = Variation(to_json(config_of(kind.config, {})), buildable, f"{name} {cls.__name__} {seed}", 256)
        for _ in range(configs):
            given = variation.draw()
            if given is None:
                continue
            with tempfile.TemporaryDirectory() as folder:
                if _saved(cls, kind.config, given, Path(folder), outcome):
                    _judge(Path(folder), cls.__name__, chooser, outcome)
    return outcome


_KNOWN: dict[str, Any] = {}


def _types() -> dict[str, Any]:
    from architectures.catalogue import model_types

    if not _KNOWN:
        _KNOWN.update(model_types()[0])
    return _KNOWN


def _quiet() -> None:
    import torch
    import transformers
    from architectures.observing import leave_values_alone

    leave_values_alone()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    transformers.logging.set_verbosity(50)
    transformers.utils.logging.disable_progress_bar()


def _saved(cls: Any, config_class: Any, given: Mapping[str, Any], folder: Path, outcome: Outcome) -> bool:
    """Save a model. It may fail: not every class saves every config that it can be built from."""
    from architectures.observing import build, config_of

    meta = build(cls, config_of(config_class, given)) if _builds(cls, config_class, given) else None
    if meta is None or sum(tensor.numel() for tensor in meta.state_dict().values()) > _LARGEST_FILE:
        outcome.counts["not built, or too large"] += 1
        return False
    try:
        cls(config_of(config_class, given)).save_pretrained(folder)
    except Exception as error:
        outcome.counts[f"not saved: {type(error).__name__}"] += 1
        return False
    outcome.counts["saved"] += 1
    return True


def _builds(cls: Any, config_class: Any, given: Mapping[str, Any]) -> bool:
    from architectures.observing import CannotBuild, build, config_of

    try:
        build(cls, config_of(config_class, given))
    except CannotBuild:
        return False
    return True


def _judge(folder: Path, cls: str, chooser: random.Random, outcome: Outcome) -> None:
    checkpoint, findings = _inspected(folder)
    where = f"{outcome.name} {cls}"
    wrong = [f for f in findings if f.code in OURS and f.severity is not Severity.NOTE]
    outcome.faults.extend(f"FALSE {where}: {f.code} {f.message[:300]}" for f in wrong)
    fit = next((part.architecture for part in checkpoint.parts if part.architecture is not None), None)
    if fit is None:
        outcome.counts["not judged"] += 1
        return
    outcome.counts["judged"] += 1
    outcome.counts["tensors"] += fit.matched
    outcome.counts["tensors of no row"] += len(fit.unmatched)
    for word, change, is_right in _damages(checkpoint, cls, chooser):
        damaged = _damaged(folder, change)
        found = [f for f in damaged if f.code in OURS and is_right(f)]
        outcome.counts[f"{word}: {'found' if found else 'not found'}"] += 1
        others = {f.code for f in damaged if f.code in OURS and f.severity is Severity.ERROR} - {f.code for f in found}
        if others:
            outcome.faults.append(f"OTHER {where} {word}: {sorted(others)} {[f.message[:200] for f in damaged][:2]}")


Change = Callable[[dict[str, Any]], None]


def _damages(
    checkpoint: Checkpoint, cls: str, chooser: random.Random
) -> Iterator[tuple[str, Change, Callable[[Finding], bool]]]:
    """What is done to the header of a file, and what a finding must say then."""
    from ckpt_doctor.analysis.architecture.expected import expected

    part = next(part for part in checkpoint.parts if part.architecture is not None)
    wanted = expected((part.config.data if part.config is not None else None) or {})
    assert wanted is not None
    names = sorted(tensor.name for tensor in part.loaded_tensors)
    sure = [
        name for name in names if (match := wanted.match(name)) is not None and match.row.condition is not None
    ]  # fmt: skip
    if sure:
        chosen = chooser.choice(sure)
        yield "key dropped", lambda header: header.pop(chosen), lambda f: _names(f, chosen)
        shaped = chooser.choice(sure)
        yield "shape changed", lambda header: _longer(header[shaped]), lambda f: shaped in f.tensors
    experts = [name for name in sure if re.search(r"experts\.\d+\.", name)]
    if experts:
        lost = re.sub(r"(experts\.\d+\.).*", r"\1", chooser.choice(experts))
        yield "expert dropped", lambda header: _without(header, lost), lambda f: any(lost in n for n in f.tensors)
    heads = [name for name in sure if (match := wanted.match(name)) is not None and match.row.head]
    if heads:
        head = chooser.choice(heads)
        yield "head dropped", lambda header: header.pop(head), lambda f: head in f.tensors and f.code == "CKD316"
    layers = sorted({name[: found.end()] for name in sure if (found := re.search(r"(layers?|h|blocks?)\.\d+\.", name))})
    if len(layers) > 1:
        layer = chooser.choice(layers)
        yield "layer dropped", lambda header: _without(header, layer), lambda f: _names(f, layer[:-1])


def _names(finding: Finding, name: str) -> bool:
    return any(name == known or name.startswith(f"{known}.") or known.startswith(name) for known in finding.tensors)


def _longer(entry: dict[str, Any]) -> None:
    entry["shape"] = [*entry["shape"], 1] if not entry["shape"] else [2 * entry["shape"][0], *entry["shape"][1:]]


def _without(header: dict[str, Any], start: str) -> None:
    for name in [name for name in header if name.startswith(start)]:
        del header[name]


def _damaged(folder: Path, change: Change) -> list[Finding]:
    """The findings on a copy of which only the header of the file was changed: no byte of a tensor is read."""
    file = folder / "model.safetensors"
    whole = file.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    change(header)
    with tempfile.TemporaryDirectory() as other:
        for path in folder.glob("*.json"):
            (Path(other) / path.name).write_bytes(path.read_bytes())
        start = 0
        for name in sorted(name for name in header if name != "__metadata__"):
            size = _WIDTHS[header[name]["dtype"]]
            for dim in header[name]["shape"]:
                size *= dim
            header[name]["data_offsets"] = [start, start + size]
            start += size
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with (Path(other) / file.name).open("wb") as made:
            made.write(len(text).to_bytes(8, "little") + text)
            made.truncate(8 + len(text) + start)
        return list(_inspected(Path(other))[1])


_WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1, "C64": 8}


def _inspected(folder: Path) -> tuple[Checkpoint, tuple[Finding, ...]]:
    report = ckpt_doctor.inspect(folder)
    return report.diagnoses[0].checkpoint, report.findings


if __name__ == "__main__":
    sys.exit(main())
