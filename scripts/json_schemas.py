"""The schemas in docs/schema/, one for each JSON document that the commands write.

``generate_docs.py`` writes them. They are JSON Schema of draft 2020-12. A reader must allow keys that it does not know,
because a later release may add some; so do the schemas.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from ckpt_doctor.core.contract import KIND
from ckpt_doctor.core.coverage import MODES
from ckpt_doctor.core.findings import MAX_TENSORS
from ckpt_doctor.core.weight_file import FileFormat

Schema = dict[str, Any]

FOLDER = Path("docs/schema")
TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
TEXT_OR_NULL: Schema = {"type": ["string", "null"]}
COUNT_OR_NULL: Schema = {"type": ["integer", "null"], "minimum": 0}


def said(schema: Schema, description: str) -> Schema:
    """The schema with a sentence for its reader."""
    return {**schema, "description": description}


def one_of(*values: str | None) -> Schema:
    return {"enum": list(values)}


def array(items: Schema, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


def record(keys: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    """An object with ``keys``, all of them there, and ``optional`` ones."""
    return {"type": "object", "properties": {**keys, **(optional or {})}, "required": list(keys)}


def table(values: Schema) -> Schema:
    """An object with keys of any name."""
    return {"type": "object", "additionalProperties": values}


def or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


SHAPE = said(array(COUNT), "sizes of the dimensions; empty for a scalar")
FORMAT = one_of(*get_args(FileFormat))
SEVERITY = one_of("error", "warning", "note")
ENVELOPE = {
    "schema_version": said({"const": 1}, "grows where a reader of the old form would misread the new one"),
    "tool": record({"name": {"const": "ckpt-doctor"}, "version": TEXT}),
}
FINDING = record(
    {
        "code": said({"type": "string", "pattern": "^CKD[0-9]{3}$"}, "the rule; it keeps its meaning"),
        "name": TEXT,
        "severity": SEVERITY,
        "message": said(TEXT, "for people; the wording may change"),
        "path": said(TEXT_OR_NULL, "relative to the checkpoint; null for the checkpoint as a whole"),
        "tensors": array(TEXT, maxItems=MAX_TENSORS),
        "tensor_count": said(COUNT, f"all of them; `tensors` lists at most {MAX_TENSORS}"),
        "evidence": said({"type": "object"}, "numbers and names behind the message; the keys depend on the rule"),
        "fix": or_null(record({"title": TEXT, "safety": one_of("safe", "unsafe"), "command": TEXT})),
        "fingerprint": said(
            {"type": "string", "pattern": "^[0-9a-f]{16}$"}, "stays the same if only the message changes"
        ),
    }
)
UNREAD = record({"path": TEXT, "kind": TEXT, "bytes": COUNT, "files": COUNT, "reason": TEXT})
CHECKPOINT = record(
    {
        "path": TEXT,
        "layout": said(TEXT, "`weaver`, `trigger`, `memgen`, `peft`, `transformers`, `file`, or a team's own"),
        "variant": TEXT,
        "healthy": said(FLAG, "no error is left after select, ignore and severity settings"),
        "deep": said(FLAG, "whether the values were read, and not only headers and configs"),
        "files": array(
            record(
                {"path": TEXT, "role": TEXT, "part": TEXT, "format": FORMAT, "bytes": COUNT, "tensors": COUNT},
            )
        ),
        "totals": record({"tensors": COUNT, "parameters": COUNT, "bytes": COUNT, "unique_bytes": COUNT}),
        "not_judged": array(ref("unread")),
        "findings": array(ref("finding")),
    }
)
STATISTICS = array(record({"code": TEXT, "name": TEXT, "severity": SEVERITY, "count": COUNT, "fixable": COUNT}))
REPORT_KEYS = {
    **ENVELOPE,
    "deep": FLAG,
    "checkpoints": array(ref("checkpoint")),
    "not_judged": array(ref("unread")),
    "summary": record(
        {"checkpoints": COUNT, "healthy": COUNT, "errors": COUNT, "warnings": COUNT, "notes": COUNT, "fixable": COUNT}
    ),
}
REPORT = record(REPORT_KEYS, {"statistics": said(STATISTICS, "with --statistics")})
REPORT_DEFS = {"finding": FINDING, "unread": UNREAD, "checkpoint": CHECKPOINT}
COVERAGE = record(
    {
        **ENVELOPE,
        "path": TEXT,
        "layout": TEXT,
        "model": TEXT,
        "loader": TEXT,
        "own_loader": said(FLAG, "the loader is one of this tool"),
        "caveat": said(TEXT_OR_NULL, "what this coverage does not prove"),
        "mode": one_of(*MODES),
        "complete": said(FLAG, "every expected tensor arrived, and nothing is wrong"),
        "unjudged": said(TEXT_OR_NULL, "why the forward pass could not be judged"),
        "coverage": record(
            {"expected": COUNT, "restored": COUNT, "ratio": {"type": "number", "minimum": 0, "maximum": 1}}
        ),
        "components": array(record({"name": TEXT, "expected": COUNT, "restored": COUNT})),
        "tensors": array(
            record(
                {
                    "name": TEXT,
                    "file": TEXT,
                    "component": TEXT,
                    "status": one_of("restored", "cast", "mismatched", "missing"),
                    "parameter": TEXT_OR_NULL,
                    "detail": TEXT,
                    "expected": FLAG,
                }
            )
        ),
        "findings": array(ref("finding")),
        "log": said(array(TEXT), "what the loader said"),
        "model_class": or_null(
            record(
                {
                    "name": TEXT,
                    "reason": TEXT,
                    "loader": TEXT,
                    "usual": TEXT_OR_NULL,
                    "modules": COUNT,
                    "found": COUNT,
                    "absent": array(TEXT),
                    "usual_found": COUNT,
                }
            )
        ),
        "departures": said(array(TEXT), "what was done that the ecosystem's own loader would not do"),
    },
    {"statistics": STATISTICS},
)
PASSED_OVER = record({"path": TEXT, "reason": TEXT})
REPAIRED = {"code": TEXT, "name": TEXT, "path": TEXT_OR_NULL}
ONE_SIDED = record({"part": TEXT, "name": TEXT, "dtype": TEXT, "shape": SHAPE, "same_as": TEXT_OR_NULL})
MISMATCH = record({"part": TEXT, "name": TEXT, "a": {}, "b": {}})
SIDE = record({"path": TEXT, "layout": TEXT, "formats": array(FORMAT), "tensors": COUNT})

DOCUMENTS: dict[str, tuple[str, Schema, dict[str, Schema]]] = {
    "inspect": ("`ckpt-doctor inspect --output-format json`", REPORT, REPORT_DEFS),
    "gate": (
        "`ckpt-doctor gate --output-format json`",
        record(
            {
                **REPORT_KEYS,
                "gate": record(
                    {
                        "passed": said(FLAG, "whether the command may run"),
                        "checkpoint": said(TEXT, "the absolute path that the command is given"),
                        "reason": said(TEXT_OR_NULL, "why it does not pass"),
                        "passed_over": said(array(PASSED_OVER), "newer saves that --fallback left out"),
                        "latest": or_null(
                            record(
                                {
                                    "path": TEXT,
                                    "layout": TEXT,
                                    "reason": said(TEXT, "why this save is the newest"),
                                    "written_later": said(TEXT_OR_NULL, "older by its name, newer by its files"),
                                    "left_out": said(array(PASSED_OVER), "base models of adapters in the tree"),
                                    "adapter": TEXT_OR_NULL,
                                }
                            )
                        ),
                    }
                ),
                "verification": or_null(ref("coverage")),
            },
            {"statistics": STATISTICS},
        ),
        {**REPORT_DEFS, "coverage": COVERAGE},
    ),
    "verify": ("`ckpt-doctor verify --output-format json`", COVERAGE, {"finding": FINDING}),
    "fix": (
        "`ckpt-doctor fix --output-format json`; with --dry-run it is the plan",
        record(
            {
                **ENVELOPE,
                "dry_run": FLAG,
                "rolled_back": said(array(TEXT), "interrupted repairs that were taken back first"),
                "repairs": array(
                    record(
                        {
                            "path": TEXT,
                            "steps": array(record({**REPAIRED, "title": TEXT})),
                            "rejected": array(record({**REPAIRED, "reason": TEXT})),
                            "changes": array(
                                record(
                                    {
                                        "path": TEXT,
                                        "action": one_of("written", "rewritten", "renamed", "copied", "removed"),
                                        "bytes_before": COUNT_OR_NULL,
                                        "bytes_after": COUNT_OR_NULL,
                                        "exact": said(FLAG, "false where `bytes_after` is an estimate"),
                                        "source": said(TEXT_OR_NULL, "the old name of what was renamed or copied"),
                                    }
                                )
                            ),
                            "backup": TEXT_OR_NULL,
                            "error": TEXT_OR_NULL,
                        }
                    )
                ),
                "remaining": said(ref("report"), "what is there now, or would be after a dry run"),
            }
        ),
        {**REPORT_DEFS, "report": REPORT},
    ),
    "convert": (
        "`ckpt-doctor convert --output-format json`",
        record(
            {
                **ENVELOPE,
                "to": one_of("safetensors", "bin"),
                "files": array(
                    record(
                        {
                            "source": TEXT,
                            "target": TEXT,
                            "nbytes": COUNT,
                            "tensors": COUNT,
                            "aliases": array(
                                record(
                                    {
                                        "names": array(TEXT),
                                        "action": one_of("cloned", "dropped"),
                                        "nbytes": COUNT,
                                        "kept": TEXT_OR_NULL,
                                    }
                                )
                            ),
                            "values": array(TEXT),
                            "dropped": array(TEXT),
                        }
                    )
                ),
                "copied": array(TEXT),
                "indexes": array(TEXT),
                "already": said(array(TEXT), "weights that had this format before"),
                "left_out": array(TEXT),
                "checked": said(FLAG, "every tensor was compared with its source"),
                "summary": record({"files": COUNT, "tensors": COUNT, "bytes": COUNT}),
            }
        ),
        {},
    ),
    "ls": (
        "`ckpt-doctor ls --output-format json`",
        record(
            {
                **ENVELOPE,
                "checkpoints": array(
                    record(
                        {
                            "path": TEXT,
                            "layout": TEXT,
                            "files": array(
                                record(
                                    {
                                        "path": TEXT,
                                        "role": TEXT,
                                        "format": FORMAT,
                                        "bytes": COUNT,
                                        "tensors": COUNT,
                                        "readable": FLAG,
                                        "defects": array(record({"kind": TEXT, "message": TEXT})),
                                    }
                                )
                            ),
                            "tensors": array(
                                record(
                                    {
                                        "name": TEXT,
                                        "dtype": TEXT,
                                        "shape": SHAPE,
                                        "bytes": COUNT,
                                        "file": TEXT,
                                        "shared_with": array(TEXT, maxItems=MAX_TENSORS),
                                        "shared_count": COUNT,
                                    }
                                )
                            ),
                            "totals": record({"tensors": COUNT, "parameters": COUNT, "bytes": COUNT}),
                        }
                    )
                ),
            }
        ),
        {},
    ),
    "rules": (
        "`ckpt-doctor rules --output-format json`",
        record(
            {
                **ENVELOPE,
                "rules": array(
                    record(
                        {
                            "code": TEXT,
                            "name": TEXT,
                            "severity": SEVERITY,
                            "fix": one_of("none", "safe", "unsafe"),
                            "needs": TEXT,
                            "summary": TEXT,
                            "documentation": TEXT,
                        }
                    )
                ),
            }
        ),
        {},
    ),
    "settings": (
        "`ckpt-doctor settings --output-format json`",
        record(
            {
                **ENVELOPE,
                "file": TEXT_OR_NULL,
                "passed_over": array(TEXT),
                "settings": table(
                    record({"value": said({}, "null if it is not set"), "source": TEXT, "default": TEXT_OR_NULL})
                ),
            }
        ),
        {},
    ),
    "diff": (
        "`ckpt-doctor diff --output-format json`",
        record(
            {
                **ENVELOPE,
                "equal": FLAG,
                "a": SIDE,
                "b": SIDE,
                "values": said(FLAG, "whether values were asked for"),
                "summary": record(
                    dict.fromkeys(
                        (
                            *("common", "compared", "only_in_a", "only_in_b", "shapes", "dtypes", "settings"),
                            *("values", "problems"),
                        ),
                        COUNT,
                    )
                ),
                "only_in_a": array(ONE_SIDED),
                "only_in_b": array(ONE_SIDED),
                "shapes": array(MISMATCH),
                "dtypes": array(MISMATCH),
                "settings": array(MISMATCH),
                "differing": array(
                    record(
                        {
                            "part": TEXT,
                            "name": TEXT,
                            "dtypes": array(TEXT, minItems=2, maxItems=2),
                            "shape": SHAPE,
                            "elements": COUNT,
                            "differing": COUNT,
                            "first": said(COUNT, "flat index in row-major order"),
                            "largest": {"type": ["number", "null"]},
                            "nonfinite": COUNT,
                        }
                    )
                ),
                "problems": array(
                    record({"side": one_of("a", "b", ""), "path": TEXT, "reason": TEXT, "tensors": array(TEXT)})
                ),
                "left_out": array(TEXT),
            }
        ),
        {},
    ),
    "contract": (
        "the file that `ckpt-doctor lock` writes",
        record(
            {
                **{"schema_version": ENVELOPE["schema_version"], "kind": {"const": KIND}, "tool": ENVELOPE["tool"]},
                "layout": TEXT,
                "parts": array(
                    record(
                        {
                            "role": TEXT,
                            "name": TEXT,
                            "info": said(
                                record({"files": table(TEXT)}), "what the contract was made from; it binds to nothing"
                            ),
                            "tensors": table(
                                record(
                                    {"dtype": TEXT, "shape": SHAPE},
                                    {
                                        "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
                                        "same_as": said(TEXT, "the tensor of which this was another name"),
                                    },
                                )
                            ),
                        },
                        {"config": said({"type": "object"}, "settings of the adapter that change what tensors mean")},
                    ),
                    minItems=1,
                ),
            }
        ),
        {},
    ),
}
"""Of each document: what writes it, its schema, and what the schema refers to."""


def pages() -> Iterator[tuple[Path, str]]:
    """Each schema file with its text."""
    for name, (title, schema, defs) in DOCUMENTS.items():
        document = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$comment": "Written by scripts/generate_docs.py from scripts/json_schemas.py.",
            "title": title,
            **schema,
            **({"$defs": defs} if defs else {}),
        }
        yield FOLDER / f"{name}.json", json.dumps(document, indent=2, ensure_ascii=False)
