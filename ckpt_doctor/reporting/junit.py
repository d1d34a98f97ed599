"""JUnit's XML, as Jenkins and GitLab read it: a suite for each checkpoint, a case for each finding.

What fails is what makes the exit code 1. XML 1.0 can hold neither control characters nor halves of surrogate pairs, not
even escaped; ``printable`` has written them out by then. The document is ASCII, so no encoding can spoil it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from html import escape

from ckpt_doctor.core.findings import Finding
from ckpt_doctor.core.judgement import Judged

from .escape import printable, shortened
from .finding_text import fix_line
from .presentation import Presentation
from .sections import Section, sections


def lines(judged: Judged, look: Presentation) -> Iterator[str]:
    """The document. With ``statistics`` each suite has the counts by rule as properties."""
    parts = sections(judged)
    cases = [_cases(part, look) for part in parts]
    failures = [len(part.judgement.failing(look.fail_on)) for part in parts]
    yield '<?xml version="1.0" encoding="UTF-8"?>'
    errors = sum(not part.judgement.judged for part in parts)
    yield f"<testsuites{_attributes(name='ckpt-doctor', **_numbers(sum(map(len, cases)), sum(failures), errors))}>"
    for part, own, failed in zip(parts, cases, failures, strict=True):
        yield f"  <testsuite{_attributes(name=part.path, **_numbers(len(own), failed, not part.judgement.judged))}>"
        if look.statistics:
            yield from _statistics(part)
        yield from own
        yield "  </testsuite>"
    yield "</testsuites>"


def _numbers(tests: int, failures: int, errors: int) -> dict[str, object]:
    return {"tests": tests, "failures": failures, "errors": int(errors), "skipped": 0, "time": 0}


def _cases(part: Section, look: Presentation) -> list[str]:
    """One element a case. Readers take equal names for one case, so those are numbered."""
    seen: Counter[str] = Counter()
    cases = []
    if part.judgement.healthy and part.judgement.passes(look.fail_on):
        output = f"\n      <system-out>{_text(part.contents)}</system-out>\n    "
        cases.append(_case(part, part.sound, part.root, output))
    if not part.judgement.judged:
        cases.append(
            _case(part, "not judged", part.root, f"\n      <error{_attributes(message='nothing was judged')}/>\n    ")
        )
    for finding in part.findings:
        name = f"{finding.code} {finding.name}" + (f": {finding.path}" if finding.path is not None else "")
        seen[name] += 1
        number = f" ({seen[name]})" if seen[name] > 1 else ""
        cases.append(_case(part, name + number, part.file(finding), _outcome(finding, look)))
    return cases


def _case(part: Section, name: str, file: str, body: str) -> str:
    return f"    <testcase{_attributes(classname=part.path, name=name, file=file, time=0)}>{body}</testcase>"


def _outcome(finding: Finding, look: Presentation) -> str:
    message = shortened(printable(finding.message))
    whole = message if finding.fix is None else f"{message}\n{fix_line(finding.fix)}"
    severity = finding.severity.value
    if finding.fails(look.fail_on):
        return f"\n      <failure{_attributes(message=message, type=severity)}>{_text(whole)}</failure>\n    "
    return f"\n      <system-out>{_text(f'{severity}: {whole}')}</system-out>\n    "


def _statistics(part: Section) -> Iterator[str]:
    from .statistics import counts

    rows = counts(part.findings)
    if rows:
        yield "    <properties>"
        for row in rows:
            name = f"{row.code} {row.name} ({row.severity.value})"
            yield f"      <property{_attributes(name=name, value=row.findings)}/>"
        yield "    </properties>"


def _attributes(**values: object) -> str:
    return "".join(f' {name}="{_text(printable(str(value)))}"' for name, value in values.items())


def _text(text: str) -> str:
    return escape(text).encode("ascii", "xmlcharrefreplace").decode()
