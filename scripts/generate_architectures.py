"""Make ckpt_doctor/knowledge/architectures from the installed transformers: what each model type holds on disk.

    python scripts/generate_architectures.py [--types llama,bert] [--jobs 2]

Nothing is taken from documentation: every class is built on the meta device from random configs whose numbers differ,
and a table keeps what is the same in all of them. What is not certain is left out. The script says how many types,
classes, names and dimensions are covered, lists what is not and why, and what has changed against the tables that were
there, so that a run with another version of transformers shows what that version changes.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.insert(0, str(Path(__file__).parents[1]))

TARGET = Path(__file__).parents[1] / "ckpt_doctor" / "knowledge" / "architectures"


class Made(NamedTuple):
    """The table of one type as text, or why there is none."""

    name: str
    text: str | None
    reason: str
    refused: dict[str, str]


def main() -> None:
    """Make the tables that were asked for and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--types", default="", help="only these, separated by commas")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--texts", type=Path, help="a folder into which each table is written as JSON too, to be read")
    options = parser.parse_args()
    _quiet()
    from architectures.catalogue import model_types

    types, failed = model_types()
    wanted = [name for name in options.types.split(",") if name] or list(types)
    before = read_all()
    left_out: dict[str, str] = dict(failed)
    after: dict[str, str] = {}
    for made in _made(wanted, options.jobs):
        left_out |= {f"{made.name} {cls}": reason for cls, reason in made.refused.items()}
        if made.text is None:
            left_out[made.name] = made.reason
        else:
            after[made.name] = made.text
            if options.texts:
                options.texts.mkdir(parents=True, exist_ok=True)
                (options.texts / f"{made.name}.json").write_text(made.text)
        print(f"{made.name}: {made.reason or 'made'}", file=sys.stderr, flush=True)
    untouched = {name: text for name, text in before.items() if name in types and name not in wanted}
    write_all({**untouched, **after})
    print("\n".join(_report(after, left_out)))
    print("\n".join(_difference({name: text for name, text in before.items() if name not in untouched}, after)))


def read_all() -> dict[str, str]:
    """The tables that the package holds."""
    index = TARGET / "index.json"
    if not index.exists():
        return {}
    data = (TARGET / "tables.bin").read_bytes()
    places = json.loads(index.read_text())["types"]
    return {name: zlib.decompress(data[start : start + size]).decode() for name, (start, size) in places.items()}


def write_all(tables: dict[str, str]) -> None:
    """Write tables one after the other, each compressed by itself, and an index of where they lie."""
    import transformers
    from architectures.serial import LEGACY

    places, blocks, start = {}, [], 0
    for name, text in sorted(tables.items()):
        block = zlib.compress(text.encode(), 9)
        places[name] = [start, len(block)]
        blocks.append(block)
        start += len(block)
    index = {"transformers": transformers.__version__, "old": sorted(LEGACY), "types": places}
    (TARGET / "tables.bin").write_bytes(b"".join(blocks))
    (TARGET / "index.json").write_text(json.dumps(index, separators=(",", ":")) + "\n")


def _made(names: list[str], jobs: int) -> Iterator[Made]:
    if jobs == 1:
        yield from map(make_one, names)
        return
    with ProcessPoolExecutor(jobs, initializer=_quiet) as pool:
        for done in as_completed([pool.submit(make_one, name) for name in names]):
            yield done.result()


def make_one(name: str) -> Made:
    """The table of one type."""
    from architectures.catalogue import model_types
    from architectures.observing import CannotBuild
    from architectures.refining import refined
    from architectures.serial import as_data, text_of
    from architectures.tables import make

    global _TYPES
    if _TYPES is None:
        _TYPES = model_types()[0]
    gc.collect()
    try:
        table = make(_TYPES[name])
        return Made(name, text_of(refined(as_data(table), _TYPES[name])), "", table.refused)
    except CannotBuild as error:
        return Made(name, None, str(error), {})
    except Exception as error:
        # A type that the fitting trips over must not end a run of an hour: it is left out, and the report says so.
        return Made(name, None, f"fitting: {type(error).__name__}: {error}", {})


_TYPES: dict[str, Any] | None = None


def _quiet() -> None:
    import torch
    import transformers

    warnings.simplefilter("ignore")
    from architectures.observing import leave_values_alone

    torch.set_num_threads(1)
    leave_values_alone()
    # Models are thrown away by the thousand, and what is imported stays.
    gc.freeze()
    gc.disable()
    transformers.logging.set_verbosity(50)


def _report(tables: dict[str, str], left_out: dict[str, str]) -> Iterator[str]:
    count: Counter[str] = Counter()
    for text in tables.values():
        for cls in json.loads(text)["classes"].values():
            count["classes"] += 1
            for _, axes, shape, condition in cls["rows"]:
                count["names"] += 1
                count["sure names"] += condition is not None and None not in axes
                count["dimensions"] += len(shape or ())
                count["sure dimensions"] += sum(dim is not None for dim in shape or ())
    yield f"{len(tables)} model types, {count['classes']} classes, {sum(map(len, tables.values())):,} bytes"
    yield f"{count['names']} names, {count['sure names']} of them with a certain place"
    yield f"{count['dimensions']} dimensions, {count['sure dimensions']} of them certain"
    yield f"left out: {len(left_out)}"
    for name, reason in sorted(left_out.items()):
        yield f"  {name}: {reason}"


def _difference(before: dict[str, str], after: dict[str, str]) -> Iterator[str]:
    yield f"new types: {sorted(set(after) - set(before))}"
    yield f"types that are gone: {sorted(set(before) - set(after))}"
    for name in sorted(set(before) & set(after)):
        if before[name] != after[name]:
            yield f"{name} differs:"
            old, new = before[name].splitlines(), after[name].splitlines()
            yield from (f"  - {line}" for line in old if line not in set(new))
            yield from (f"  + {line}" for line in new if line not in set(old))


if __name__ == "__main__":
    main()
