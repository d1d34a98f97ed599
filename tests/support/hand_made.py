"""Checkpoints that lie on no disk, and a name that nobody should see as it is."""

from __future__ import annotations

from math import prod
from pathlib import Path

from ckpt_doctor.core.checkpoint import Checkpoint
from ckpt_doctor.core.dtypes import BY_NAME
from ckpt_doctor.core.findings import Finding, Fix, Severity
from ckpt_doctor.core.parts import Part
from ckpt_doctor.core.results import Diagnosis
from ckpt_doctor.core.weight_file import Storage, TensorInfo, WeightFile
from ckpt_doctor.layouts.registry import WEAVER

# What a terminal would act upon: a newline, an ANSI escape, a bidirectional override, C1 and invisible characters.
HOSTILE = "a\nb\r\x1b[31m\x1b]0;title\x07\u202egnp.\u2066\x9b2J\u2028\u200b\x7f"

# What means something to a workflow's runner, to XML, HTML and Markdown, or to GitHub in what was rendered.
ATTACKS = {
    "lines": "a\n::error file=x::injected\r::set-output name=x::y\u2028\u2029",
    "commands": "::add-mask::e ##[set-output name=x]y ::stop-commands::z",
    "percent": "%0A::error::x%25,title=y",
    "xml": "]]></failure><testcase/>&amp;&#0;\"'",
    "html": "</td></code><img src=x onerror=y><!-- <script>",
    "backticks": "``` ```` `x` ~~~",
    "pipes": "a|b\\|c\\\\|",
    "controls": "\0\x1b[31m\x07\x7f\x9b2J\ufffe",
    "directions": "\u202egnp.\u2066\u200b\ufeff",
    "surrogates": "\udcff\ud800",
    "references": "@octocat #1 GH-1 some/where#2 https://a.example www.a.example b@a.example deadbeef0",
    "markdown": "[x](javascript:y) ![i](z) **b** __c__ ~~d~~ $m$ :smile: [^1] <https://b.example> \\",
    "paths": "../../../no/such/file",
    "absolute": "//other.example/C:/x?y#z",
    "item": "1. - # > + = x",
    "empty": "",
}


def tensor(name: str, *shape: int, storage: str | None = None) -> TensorInfo:
    stride = tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))
    return TensorInfo(name, BY_NAME["float32"], shape, stride, Storage(storage or name, 4 * prod(shape), 0))


def checkpoint(path: str, *tensors: TensorInfo, name: str = "weaver_lora/adapter_model.bin") -> Checkpoint:
    file = WeightFile(name, "torch-zip", 1234, tensors=tensors)
    return Checkpoint(Path(path), path, WEAVER, "MemGen weaver", (Part("weaver", "adapter", files=(file,)),))


def attacked(text: str) -> Diagnosis:
    """A checkpoint of which every name is ``text``, with a finding of each severity that begins with it or holds it."""
    fix = Fix(text, "unsafe", f"ckpt-doctor fix {text}")
    evidence = {text: [text, {"nested": text}]}
    findings = tuple(
        Finding(code, name, severity, message, text, (text, f"{text}.weight"), 7, evidence, fix)
        for code, name, severity, message in (
            ("CKD301", "key-missing", Severity.ERROR, text),
            ("CKD311", "unexpected-key", Severity.WARNING, f"The layout does not know ({text})."),
            ("CKD508", "base-path-unusable", Severity.NOTE, f"{text} and `{text}` lie elsewhere"),
        )
    )
    return Diagnosis(checkpoint(text, tensor(text, 2), name=text), findings)
