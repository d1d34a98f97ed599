"""The four loaders of the story that this program began with, and the table of them in the README."""

from __future__ import annotations

from pathlib import Path

import pytest

from ckpt_doctor.core.coverage import Coverage
from ckpt_doctor.verification import verify
from support import places

REPOSITORY = Path(__file__).parents[2]
WEAVER = REPOSITORY / "fixtures" / "healthy" / "weaver_bin" / "weaver"
LOADERS = places.LOADERS / "weaver_loaders.py"
START, END = "<!-- four loaders: written by tests/verification/test_four_loaders.py -->", "<!-- end -->"

STORY = {
    "before": ("before the fixes", "opens `adapter_model.safetensors` by name"),
    "after_fix_1": ("after the first fix", "reads the `.bin`"),
    "after_fix_2": ("after the second fix", "reads `projections.pt` too"),
    "right": ("a right one", "lets PEFT put the adapter's name back"),
}


@pytest.fixture(scope="module")
def judged() -> dict[str, Coverage]:
    return {name: verify(WEAVER, f"{LOADERS}:build", loader=f"{LOADERS}:{name}") for name in STORY}


def table(judged: dict[str, Coverage]) -> str:
    rows = ["| loader | adapter | projections | latents | verdict |", "|---|---|---|---|---|"]
    for name, (title, what) in STORY.items():
        coverage = judged[name]
        parts = " | ".join(f"{item.restored}/{item.expected}" for item in coverage.components)
        codes = ", ".join(f"`{finding.code}`" for finding in coverage.findings)
        rows.append(f"| {title}: {what} | {parts} | {'complete' if coverage.complete else codes} |")
    return "\n".join(rows)


@pytest.mark.slow
def test_each_loader_is_judged_right(judged: dict[str, Coverage]) -> None:
    restored = {name: [item.restored for item in coverage.components] for name, coverage in judged.items()}
    assert restored == {"before": [0, 0, 0], "after_fix_1": [0, 0, 0], "after_fix_2": [0, 4, 2], "right": [8, 4, 2]}
    codes = {name: [finding.code for finding in coverage.findings] for name, coverage in judged.items()}
    assert codes == {
        "before": ["CKD002"],
        "after_fix_1": ["CKD001", "CKD001", "CKD005"],
        "after_fix_2": ["CKD001", "CKD005"],
        "right": [],
    }
    assert [coverage.complete for coverage in judged.values()] == [False, False, False, True]


def test_the_first_says_what_it_wanted_and_where(judged: dict[str, Coverage]) -> None:
    (finding,) = judged["before"].findings
    assert "FileNotFoundError" in finding.message
    assert "weaver_lora/adapter_model.safetensors" in finding.message
    line = (
        LOADERS.read_text()
        .splitlines()
        .index('    _by_name(model, load_file(Path(path) / "weaver_lora" / "adapter_model.safetensors"))')
    )
    assert finding.evidence["place"] == f"{LOADERS}:{line + 1}"


def test_the_third_shows_the_mapping_and_the_lines_to_write(judged: dict[str, Coverage]) -> None:
    finding = judged["after_fix_2"].findings[-1]
    first = "base_model.model.model.layers.0.self_attn.q_proj.lora_A"
    assert finding.evidence["mapping"][f"{first}.weight"] == f"{first}.weaver.weight"
    assert "…q_proj.lora_A.weight -> …q_proj.lora_A.weaver.weight" in finding.message
    assert finding.evidence["code"][1].startswith("set_peft_model_state_dict(model.weaver.model, ")
    assert finding.evidence["code"][1].endswith(", adapter_name='weaver')")


def test_what_the_loader_said_is_shown(judged: dict[str, Coverage]) -> None:
    assert "info: Loaded 0 weaver adapter weights" in judged["after_fix_2"].log


def test_the_table_in_the_readme(judged: dict[str, Coverage]) -> None:
    shown = (REPOSITORY / "README.md").read_text(encoding="utf-8").partition(START)[2].partition(END)[0]
    assert shown.strip() == table(judged)
