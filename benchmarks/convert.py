"""Measures ``ckpt-doctor convert`` against ``cp`` and against torch: ``python benchmarks/convert.py [--quick]``.

Whole processes, start-up included: the median wall time over several runs, and the highest resident memory. The three
sides take turns, each with the disk at rest and its target not there; only the ratios mean something. All of them end
with the new file on the disk. Exit code 1 if a bar is missed, or if the bytes are not those that torch's way writes.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from run import MEGABYTE, Command

HERE = Path(__file__).resolve().parent
COPY = 'cp "$0" "$1" && sync "$1"'
TORCH = """
import os, sys, torch
from safetensors.torch import save_file
save_file(torch.load(sys.argv[1], weights_only=True), sys.argv[2], metadata={"format": "pt"})
os.fsync(os.open(sys.argv[2], os.O_RDONLY))
"""
SLOWER_THAN_COPY = 2.0
FASTER_THAN_TORCH = 4.0
RESIDENT = 100 * MEGABYTE


def measure(source: Path, folder: Path, runs: int) -> tuple[dict[str, Command], bool]:
    """The three ways to get ``source`` elsewhere, measured in turn; and whether ours and torch's bytes are the same."""
    targets = {name: folder / f"target-{name}.safetensors" for name in ("convert", "unchecked", "cp", "torch")}
    convert = (sys.executable, "-m", "ckpt_doctor", "convert", str(source), str(targets["convert"]))
    unchecked = (*convert[:-1], str(targets["unchecked"]))
    sides = {
        "convert": Command((*convert, "--to", "safetensors")),
        "unchecked": Command((*unchecked, "--to", "safetensors", "--no-check")),
        "cp": Command(("sh", "-c", COPY, str(source), str(targets["cp"]))),
        "torch": Command((sys.executable, "-c", TORCH, str(source), str(targets["torch"]))),
    }
    for number in range(runs + 1):
        for name, side in sides.items():
            targets[name].unlink(missing_ok=True)
            os.sync()
            side.run(measure=number > 0)
    same = filecmp.cmp(targets["convert"], targets["torch"], shallow=False)
    for target in targets.values():
        target.unlink()
    return sides, same


def main() -> int:
    """Make the files, measure, print the table."""
    from tabulate import tabulate

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="0.26 GB and 10,000 tensors; the ratios are not judged")
    parser.add_argument("--folder", type=Path, help="where the files are made (default: a temporary folder)")
    parser.add_argument("--runs", type=int, default=5, help="how often each side is measured")
    arguments = parser.parse_args()
    gigabytes, count = (0.26, 10_000) if arguments.quick else (2.6, 100_000)

    rows, missed = [], []
    with tempfile.TemporaryDirectory(prefix="ckpt-doctor-benchmark-", dir=arguments.folder) as name:
        folder = Path(name)
        maker = (sys.executable, str(HERE / "make_files.py"), name, "--gigabytes", str(gigabytes))
        subprocess.run([*maker, "--tensors", str(count)], check=True)
        for what, source in (
            (f"{gigabytes} GB, 224 tensors", folder / "large.bin"),
            (f"{count:,} small tensors", folder / f"tensors-{count}.bin"),
        ):
            sides, same = measure(source, folder, arguments.runs)
            ours = sides["convert"].median
            ratios = {name: sides[name].median / ours for name in ("cp", "torch")}
            for label, side in sides.items():
                shown = f"{side.median / sides['cp'].median:.2f}", f"{sides['torch'].median / side.median:.2f}"
                rows.append([what, label, f"{side.median:.2f} s", f"{side.resident // MEGABYTE} MB", *shown])
            if not same:
                missed.append(f"{what}: not the bytes that save_file writes")
            # Of many small tensors, reading the pickle is the larger part; and of small files, the start of Python.
            if source.name == "large.bin" and not arguments.quick:
                if 1 / ratios["cp"] > SLOWER_THAN_COPY:
                    missed.append(f"{what}: {1 / ratios['cp']:.2f} times as long as cp")
                if ratios["torch"] < FASTER_THAN_TORCH:
                    missed.append(f"{what}: only {ratios['torch']:.2f} times as fast as torch")
                if sides["convert"].resident > RESIDENT:
                    missed.append(f"{what}: {sides['convert'].resident // MEGABYTE} MB resident")
    headers = ("file", "how", "time", "peak RSS", "times cp + sync", "times faster than torch")
    print(tabulate(rows, headers, disable_numparse=True))
    for line in missed:
        print(f"MISSED {line}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
