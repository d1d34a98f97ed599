"""What a report of very many findings costs: ten times the findings must take ten times as long, in every format.

    python benchmarks/reports.py [--findings 100000]

Processor time of writing the report alone, within one process; only ratios carry over to another machine.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.findings import Finding, Severity
from ckpt_doctor.core.results import Diagnosis, Report, RuleInfo
from ckpt_doctor.reporting import FORMATS, report_lines
from ckpt_doctor.reporting.presentation import Presentation


def rule(code: str) -> RuleInfo:
    """Documentation for the formats that have some."""
    return RuleInfo(code, "unexpected-key", Severity.NOTE, "headers", "none", True, "A key.", "A key.")


def seconds(count: int, output_format: str) -> float:
    """What a report of so many findings takes."""
    finding = Finding("CKD311", "unexpected-key", Severity.ERROR, "The layout does not know it.", path="a.bin")
    findings = tuple(finding._replace(tensors=(f"t{number}",), tensor_count=1) for number in range(count))
    report = Report((Diagnosis(Checkpoint(Path("w"), "w", "file", "a file", ()), findings),))
    start = time.process_time()
    for _ in report_lines(report, output_format, Presentation(rule=rule)):
        pass
    return time.process_time() - start


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--findings", type=int, default=100_000)
    count = parser.parse_args().findings
    print(f"| format | {count:,} findings | times {count // 10:,} |\n|---|---|---|")
    for output_format in FORMATS:
        few, many = seconds(count // 10, output_format), seconds(count, output_format)
        print(f"| {output_format} | {many:.2f} s | {many / few:.1f} |")


if __name__ == "__main__":
    main()
