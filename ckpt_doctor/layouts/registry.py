"""The kinds of checkpoints that are known without any settings, in the order in which ``--layout`` lists them."""

from __future__ import annotations

from ckpt_doctor.core.layout import Layout

WEAVER = Layout(
    "weaver", title="MemGen weaver", expects="safetensors", family="memgen", loads="memgen", covers="adapter"
)
TRIGGER = Layout(
    "trigger", title="MemGen trigger", expects="safetensors", family="memgen", loads="memgen", covers="adapter"
)
MEMGEN = Layout("memgen", title="MemGen", loads="memgen")
PEFT = Layout("peft", title="PEFT", nests=True, loads="adapter", covers="adapter", resumes=True)
TRANSFORMERS = Layout("transformers", title="transformers", loads="pretrained", covers="model", resumes=True)
FILE = Layout("file", title="weight file", grain="file", loads="state-dict")

BUILT_IN = (WEAVER, TRIGGER, MEMGEN, PEFT, TRANSFORMERS, FILE)
