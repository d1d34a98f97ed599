"""Measures ckpt-doctor against what it must not be slower than: ``python benchmarks/run.py [--quick]``.

Whole processes are measured, start-up included: the median of the wall time over several runs, and the highest
resident memory. The two sides of a comparison take turns, so that a machine that slows down slows both; only their
ratio means something. Everything is read once before it is measured, so that it is in the page cache.

Exit code 1 if a bar is missed. Needs torch, safetensors and, for one line, ``pip install safetensors-print``.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
WEAVER = HERE.parent / "fixtures" / "failures" / "bin_instead_of_safetensors" / "weaver"
INSPECT = (sys.executable, "-m", "ckpt_doctor", "inspect", "-q")
MEGABYTE = 1 << 20
# An installed package is compiled. The round that does not count compiles this one, if the environment lets it.
COMPILED = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

CRC32_PASS = """
import sys, zlib
crc = 0
with open(sys.argv[1], "rb", buffering=0) as file:
    while block := file.read(1 << 20):
        crc = zlib.crc32(block, crc)
"""


@dataclass(slots=True)
class Command:
    """A process to measure, and what came out: seconds of each run, and the highest number of resident bytes."""

    argv: tuple[str, ...]
    seconds: list[float] = field(default_factory=list)
    resident: int = 0

    def run(self, *, measure: bool) -> None:
        """Run it once; findings (exit code 1) are fine, anything else is not."""
        begin = time.perf_counter()
        process = subprocess.Popen(
            self.argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=HERE.parent, text=True, env=COMPILED
        )
        assert process.stderr is not None
        complaint = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        elapsed = time.perf_counter() - begin
        process.stderr.close()
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (0, 1) or "Traceback" in complaint:
            raise SystemExit(f"{' '.join(self.argv)} ended with {process.returncode}:\n{complaint}")
        if measure:
            self.seconds.append(elapsed)
            # Kilobytes on Linux, bytes on macOS.
            self.resident = max(self.resident, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One line of the table. ``bar`` is the highest ratio allowed, ``seconds`` and ``resident`` (bytes) likewise."""

    what: str
    measured: Command
    against: str = ""
    other: Command | None = None
    bar: float | None = None
    seconds: float | None = None
    resident: int | None = None
    runs: int = 7

    def run(self) -> None:
        """Measure both sides in turn, after one round that does not count."""
        sides = [side for side in (self.measured, self.other) if side is not None]
        for number in range(self.runs + 1):
            for side in sides:
                side.run(measure=number > 0)

    @property
    def ratio(self) -> float | None:
        """Median time of the measured side, in those of the other."""
        return None if self.other is None else self.measured.median / self.other.median

    @property
    def missed(self) -> bool:
        """Whether any bar was."""
        too_slow = self.ratio is not None and self.bar is not None and self.ratio > self.bar
        too_long = self.seconds is not None and self.measured.median > self.seconds
        return too_slow or too_long or (self.resident is not None and self.measured.resident > self.resident)

    def row(self) -> list[str]:
        """What the table shows."""
        allowed = [f"{self.bar:g} x"] if self.bar is not None else []
        allowed += [f"{self.seconds:g} s"] if self.seconds is not None else []
        allowed += [f"{self.resident // MEGABYTE} MB"] if self.resident is not None else []
        return [
            self.what,
            f"{self.measured.median:.3f} s",
            f"{self.measured.resident // MEGABYTE} MB",
            f"{self.against} {self.other.median:.3f} s" if self.other is not None else "",
            f"{self.ratio:.2f}" if self.ratio is not None else "",
            ", ".join(allowed),
            "MISSED" if self.missed else "",
        ]


def comparisons(folder: Path, counts: tuple[int, ...]) -> Iterator[Comparison]:
    """Everything that is measured, over the files that ``make_files.py`` put into ``folder``."""

    def inspect(path: Path, *options: str) -> Command:
        return Command((*INSPECT, *options, str(path)))

    small, large = folder / "small.bin", folder / "large.bin"
    gigabytes = f"{large.stat().st_size / 1e9:.1f} GB"
    torch = Command((sys.executable, "-c", "import torch"))
    yield Comparison("inspect weaver", inspect(WEAVER), "import torch", torch, bar=0.1, resident=60 * MEGABYTE)
    printer = safetensors_print()
    lone = folder / "small.safetensors"
    if printer is None:
        print("safetensors-print is not installed; its line is left out", file=sys.stderr)
    else:
        other = Command((printer, str(lone)))
        yield Comparison("inspect one .safetensors", inspect(lone), "safetensors-print", other, bar=2)
    against = "a small one"
    resident = 60 * MEGABYTE
    yield Comparison(f"inspect {gigabytes} .bin", inspect(large), against, inspect(small), bar=1.5, resident=resident)
    for count in counts:
        for ending in ("safetensors", "bin"):
            limit = 4.0 if ending == "bin" and count == 100_000 else None
            path = folder / f"tensors-{count}.{ending}"
            yield Comparison(f"inspect {count:,} tensors, .{ending}", inspect(path), seconds=limit, runs=3)
    for ending in ("bin", "safetensors"):
        path = folder / f"large.{ending}"
        other = Command((sys.executable, "-c", CRC32_PASS, str(path)))
        what = f"inspect --deep {gigabytes} .{ending}"
        limit_bytes = 200 * MEGABYTE
        # Of a small file, the start of Python and numpy is the larger part: the ratio is shown and not judged.
        bar = 2.0 if path.stat().st_size >= 1e9 else None
        yield Comparison(what, inspect(path, "--deep"), "zlib.crc32", other, bar=bar, resident=limit_bytes, runs=5)


def safetensors_print() -> str | None:
    """The program to compare with, beside this Python or on the PATH."""
    beside = Path(sys.executable).parent / "safetensors-print"
    return str(beside) if beside.exists() else shutil.which("safetensors-print")


def judged(rows: Iterable[Comparison]) -> int:
    """Measure each in turn and print the table; 1 where a bar is missed."""
    from tabulate import tabulate

    results = []
    for comparison in rows:
        comparison.run()
        results.append(comparison)
        print(f"{comparison.what}: {comparison.measured.median:.3f} s", file=sys.stderr)
    headers = ("what", "time", "peak RSS", "against", "ratio", "allowed", "")
    print(tabulate([result.row() for result in results], headers, disable_numparse=True))
    return 1 if any(result.missed for result in results) else 0


def main() -> int:
    """Make the files, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="a 0.26 GB file, whose --deep ratio is not judged, and no 100,000 tensors"
    )
    parser.add_argument("--folder", type=Path, help="where the files are made and kept (default: a temporary one)")
    arguments = parser.parse_args()
    gigabytes, counts = (0.26, (1_000, 10_000)) if arguments.quick else (2.6, (1_000, 10_000, 100_000))

    with tempfile.TemporaryDirectory(prefix="ckpt-doctor-benchmark-") as temporary:
        folder = arguments.folder or Path(temporary)
        maker = (sys.executable, str(HERE / "make_files.py"), str(folder), "--gigabytes", str(gigabytes))
        subprocess.run([*maker, "--tensors", *map(str, counts)], check=True)
        return judged(comparisons(folder, counts))


if __name__ == "__main__":
    sys.exit(main())
