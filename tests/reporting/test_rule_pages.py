from __future__ import annotations

import json

from ckpt_doctor.core.findings import Severity
from ckpt_doctor.core.results import RuleInfo
from ckpt_doctor.reporting.markdown_text import rendered
from ckpt_doctor.reporting.presentation import Presentation
from ckpt_doctor.reporting.rule_pages import document, page, table

PLAIN = Presentation()
MARKDOWN = """Sums it up.

## What it does
Looks at the weight files of adapters and models, each of which
must be there in `the format` that a loader will open by its name.
- one item that is long enough to need a second line, which then hangs under its own text
- two

```python
load( "as it stands" )
```
"""
RULE = RuleInfo("CKD999", "no-such", Severity.WARNING, "headers", "unsafe", "Sums it up.", MARKDOWN)


def test_markdown_becomes_plain_text() -> None:
    assert list(rendered(MARKDOWN, PLAIN)) == [
        "Sums it up.",
        "",
        "What it does",
        "Looks at the weight files of adapters and models, each of which must be there in",
        "`the format` that a loader will open by its name.",
        "- one item that is long enough to need a second line, which then hangs under its",
        "  own text",
        "- two",
        "",
        '    load( "as it stands" )',
    ]


def test_headings_are_bold_in_colour() -> None:
    assert "\x1b[1mWhat it does\x1b[0m" in list(rendered(MARKDOWN, Presentation(colour=True)))


def test_a_page_names_severity_needs_and_fix() -> None:
    lines = list(page(RULE, PLAIN))
    assert lines[0] == "CKD999 no-such"
    assert lines[1] == "warning · reads headers · unsafe fix"


def test_the_table_and_the_document_hold_every_rule() -> None:
    assert "CKD999" in "\n".join(table([RULE], PLAIN))
    (rule,) = json.loads(document([RULE]))["rules"]
    assert rule["name"] == "no-such"
    assert rule["documentation"] == MARKDOWN
