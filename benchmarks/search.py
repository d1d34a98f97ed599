"""Measures what looking for checkpoints costs: ``python benchmarks/search.py [--against PYTHON]``.

Whole processes in turn, as in ``run.py``; only the ratios mean something. PYTHON is the interpreter of another build,
in which ``ckpt_doctor`` is installed: each line is then held against that build, A B A B. Without it, siblings are held
against a quarter of them. Exit code 1 if a bar is missed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from run import HERE, Command, Comparison, judged

ADAPTER = HERE.parent / "fixtures" / "healthy" / "peft" / "lora"
MODEL = HERE.parent / "fixtures" / "healthy" / "transformers" / "single_safetensors"
SIBLINGS = (250, 1_000, 4_000)
FILES, A_FOLDER = 50_000, 100
ENDINGS = (".txt", ".json", ".png", ".dat", "", ".log", ".py", ".jpg", ".csv", ".npz")


def siblings(folder: Path, count: int) -> Path:
    """So many adapters beside each other."""
    for number in range(count):
        shutil.copytree(ADAPTER, folder / f"adapter-{number:04}")
    return folder


def tree(folder: Path, endings: tuple[str, ...], a_folder: int) -> Path:
    """A model, and very many small files that are none."""
    shutil.copytree(MODEL, folder / "model")
    for number in range(FILES):
        inside = folder / f"data-{number // a_folder:04}"
        inside.mkdir(exist_ok=True)
        (inside / f"{number:06}{endings[number % len(endings)]}").write_bytes(b"a line of text\n" * 10)
    return folder


def inspect(python: str, path: Path) -> Command:
    """The command to measure, in one process."""
    # Another build must not find this one in the working directory.
    apart = () if python == sys.executable else ("-I",)
    return Command((python, *apart, "-m", "ckpt_doctor", "inspect", "-q", "--jobs", "1", str(path)))


def comparisons(folder: Path, against: str | None) -> Iterator[Comparison]:
    """Everything that is measured."""
    places = {count: siblings(folder / f"siblings-{count}", count) for count in SIBLINGS}
    for fewer, count in zip((None, *SIBLINGS), SIBLINGS, strict=False):
        what, here = f"inspect {count:,} siblings", inspect(sys.executable, places[count])
        if against is not None and count <= 1_000:
            bar = 0.12 if count == 1_000 else None
            yield Comparison(what, here, "the other build", inspect(against, places[count]), bar=bar, runs=3)
        elif fewer is not None:
            yield Comparison(what, here, f"{fewer:,}", inspect(sys.executable, places[fewer]), bar=4.8, runs=3)
        else:
            yield Comparison(what, here, runs=3)
    mixed = tree(folder / "mixed", ENDINGS, A_FOLDER)
    alike = tree(folder / "alike", (".dat",), 10 * A_FOLDER)
    for what, place in ((f"{FILES:,} small files", mixed), (f"{FILES:,} alike", alike)):
        other = None if against is None else inspect(against, place)
        yield Comparison(f"inspect a tree of {what}", inspect(sys.executable, place), "the other build", other, bar=1.3)


def main() -> int:
    """Make the trees, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--against", help="the interpreter of another build")
    against = parser.parse_args().against
    with tempfile.TemporaryDirectory(prefix="ckpt-doctor-benchmark-") as temporary:
        return judged(comparisons(Path(temporary), against))


if __name__ == "__main__":
    sys.exit(main())
