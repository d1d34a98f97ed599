"""``ckpt-doctor diff``: what it prints, and how it ends."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import ckpt_doctor
from ckpt_doctor.core.errors import NoCheckpointError
from support.command_line import run
from support.places import FAILURES, HEALTHY, copied
from support.states import save_as

STATE = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(2), "c": torch.ones(4)}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_equal_headers_say_that_values_were_not_compared(here: Path) -> None:
    save_as(STATE, here / "a.bin")
    save_as({**STATE, "b": STATE["b"] + 1}, here / "b.safetensors")
    result = run("diff", "a.bin", "b.safetensors")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == (
        "a: a.bin · file · 3 tensors · torch-zip\n"
        "b: b.safetensors · file · 3 tensors · safetensors\n"
        "\n"
        "values were not compared: use --values\n"
        "equal: 3 tensors with the same names, shapes and dtypes\n"
    )
    assert run("diff", "a.bin", "b.safetensors", "--values").exit_code == 1
    assert run("diff", "a.bin", "b.safetensors", "-q").output == ""


def test_everything_that_differs(here: Path) -> None:
    save_as({**STATE, "only": torch.ones(1, 2), "shape": torch.ones(2), "dtype": torch.ones(2)}, here / "a.bin")
    changed = STATE["a"].clone()
    changed[1, 2] += 0.25
    changed[0, 1] = float("nan")
    other = {
        "a": changed,
        "b": STATE["b"],
        "c": STATE["c"] * 3,
        "dtype": torch.ones(2).half(),
        "new": torch.ones((), dtype=torch.int64),
        "shape": torch.ones(2, 1),
    }
    save_as(other, here / "b.safetensors")
    result = run("diff", "a.bin", "b.safetensors", "--values")
    assert (result.exit_code, result.stderr) == (1, "")
    assert (
        result.stdout
        == """\
a: a.bin · file · 6 tensors · torch-zip
b: b.safetensors · file · 6 tensors · safetensors

only in a (1)
tensor    dtype    shape
--------  -------  -------
only      float32  [1, 2]

only in b (1)
tensor    dtype    shape
--------  -------  -------
new       int64    []

shapes that differ (1)
tensor    a    b
--------  ---  ------
shape     [2]  [2, 1]

dtypes that differ (1)
tensor    a        b
--------  -------  -------
dtype     float32  float16

values that differ (2)
tensor      elements    largest difference    not finite  first at
--------  ----------  --------------------  ------------  ----------
a             2 of 6                  0.25             1  [0, 1]
c             4 of 4                     2                [0]

not equal: 1 only in a · 1 only in b · 1 in shape · 1 in dtype · 2 in value
5 tensors in both
"""
    )


def test_json(here: Path) -> None:
    save_as(STATE, here / "a.bin")
    save_as({**STATE, "c": STATE["c"] * 3}, here / "b.safetensors")
    result = run("diff", "a.bin", "b.safetensors", "--values", "--output-format", "json")
    assert result.exit_code == 1
    read = json.loads(result.stdout)
    assert (read["schema_version"], read["equal"], read["values"]) == (1, False, True)
    assert read["a"] == {"path": "a.bin", "layout": "file", "formats": ["torch-zip"], "tensors": 3}
    assert read["summary"] == {
        **{"common": 3, "compared": 3, "only_in_a": 0, "only_in_b": 0, "shapes": 0, "dtypes": 0, "settings": 0},
        **{"values": 1, "problems": 0},
    }
    assert read["differing"] == [
        {
            **{"part": "a.bin / b.safetensors", "name": "c", "dtypes": ["float32", "float32"], "shape": [4]},
            **{"elements": 4, "differing": 4, "first": 0, "largest": 2.0, "nonfinite": 0},
        }
    ]
    assert read["left_out"] == []


@pytest.mark.parametrize("other", ["weaver_safetensors", "weaver_nested"])
def test_across_formats_and_nesting(other: str) -> None:
    assert ckpt_doctor.diff(HEALTHY / "weaver_bin", HEALTHY / other, values=True).equal


def test_across_shards() -> None:
    folder = HEALTHY / "transformers"
    for other in ("sharded_bin", "single_safetensors", "single_safetensors/model.safetensors"):
        difference = ckpt_doctor.diff(folder / "sharded_safetensors", folder / other, values=True)
        assert difference.equal
        assert difference.compared == 27


def test_a_lone_file_beside_the_folder_it_came_from() -> None:
    adapter = HEALTHY / "weaver_bin/weaver/weaver_lora/adapter_model.bin"
    difference = ckpt_doctor.diff(HEALTHY / "weaver_bin", adapter, values=True)
    assert (difference.compared, len(difference.only_a), difference.differing) == (8, 6, ())
    assert difference.problems == ()


def test_parts_are_named_where_there_are_several() -> None:
    result = run("diff", HEALTHY / "memgen_upstream", HEALTHY / "weaver_bin")
    assert result.exit_code == 1
    assert [line for line in result.stdout.splitlines() if line.startswith("part ")]


def test_names_of_the_same_bytes_are_told(here: Path) -> None:
    save_as({"w": STATE["a"], "tied": STATE["a"]}, here / "a.bin")
    ckpt_doctor.convert("a.bin", "b.safetensors", to="safetensors", shared="drop")
    difference = ckpt_doctor.diff("a.bin", "b.safetensors", values=True)
    assert [(row.name, row.same_as) for row in difference.only_a] == [("w", "tied")]
    assert "= tied" in run("diff", "a.bin", "b.safetensors").stdout


def test_settings_of_adapters_are_compared(here: Path) -> None:
    adapter = copied("peft/lora", here)
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 32, "use_rslora": True}))
    result = run("diff", HEALTHY / "peft/lora", adapter)
    assert result.exit_code == 1
    rows = [line.split() for line in result.stdout.splitlines() if line.startswith(("lora_alpha", "use_rslora"))]
    assert rows == [["lora_alpha", "8", "32"], ["use_rslora", "not", "set", "true"]]


def test_files_that_nobody_loads_are_left_out_and_named(here: Path) -> None:
    adapter = copied("peft/lora", here)
    torch.save({"state": torch.ones(1)}, adapter / "optimizer.pt")
    torch.save(load_file(adapter / "adapter_model.safetensors"), adapter / "adapter_model.bin")
    difference = ckpt_doctor.diff(HEALTHY / "peft/lora", adapter, values=True)
    assert difference.equal
    assert difference.left_out == ("b: adapter_model.bin", "b: optimizer.pt")
    assert "not compared" in run("diff", adapter, adapter).stdout


def damaged_adapter(adapter: Path) -> None:
    file = adapter / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:60])


def damaged_config(adapter: Path) -> None:
    (adapter / "adapter_config.json").write_text("{")


def absent_config(adapter: Path) -> None:
    (adapter / "adapter_config.json").unlink()


@pytest.mark.parametrize("harm", [damaged_adapter, damaged_config, absent_config])
def test_what_cannot_be_read_is_1_with_the_reason(harm: object, here: Path) -> None:
    adapter = copied("peft/lora", here)
    harm(adapter)  # type: ignore[operator]
    result = run("diff", HEALTHY / "peft/lora", adapter)
    assert result.exit_code == 1
    assert "not compared (1)" in result.stdout
    assert "equal: " not in result.stdout.replace("not equal: ", "")
    if harm is not absent_config:  # what is absent on both sides makes no difference
        assert run("diff", adapter, adapter).exit_code == 1


def test_shards_that_are_absent_on_both_sides_are_not_equal(here: Path) -> None:
    model = copied("transformers/sharded_safetensors", here)
    (model / "model-00002-of-00003.safetensors").unlink()
    difference = ckpt_doctor.diff(model, model, values=True)
    assert not difference.equal
    assert {problem.reason for problem in difference.problems} == {
        "shards are not there: model-00002-of-00003.safetensors"
    }


def test_nothing_to_compare_is_2(here: Path) -> None:
    torch.save({"epoch": 3}, here / "none.pt")
    for a, b in (("none.pt", "none.pt"), ("nowhere", "none.pt"), (FAILURES, "none.pt"), (here, here / "nowhere")):
        result = run("diff", a, b)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith("error: ")
    with pytest.raises(NoCheckpointError, match=r"neither none\.pt nor none\.pt holds a tensor"):
        ckpt_doctor.diff("none.pt", "none.pt")


def test_a_file_that_is_gone_in_between(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(HEALTHY / "peft/lora/adapter_model.safetensors", here / "a.safetensors")
    opened = os.open

    def refuse(path: object, *args: int, **options: int | None) -> int:
        if str(path).endswith("a.safetensors") and seen.append(path) is None and len(seen) > 2:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *args, **options)  # type: ignore[arg-type]

    seen: list[object] = []
    monkeypatch.setattr(os, "open", refuse)
    result = run("diff", "a.safetensors", "a.safetensors", "--values")
    assert result.exit_code == 1
    assert "a: a.safetensors: it cannot be read: Permission denied" in result.stdout


def test_long_tables_are_cut_and_the_document_is_whole(here: Path) -> None:
    save_as({f"w{n:03}": torch.ones(1) for n in range(100)}, here / "a.safetensors")
    save_as({f"v{n:03}": torch.ones(1) for n in range(100)}, here / "b.safetensors")
    result = run("diff", "a.safetensors", "b.safetensors")
    assert result.stdout.count("and 60 more rows (see --output-format json)") == 2
    assert (
        len(json.loads(run("diff", "a.safetensors", "b.safetensors", "--output-format", "json").stdout)["only_in_a"])
        == 100
    )


def test_names_cannot_break_out(here: Path) -> None:
    hostile = "a\n\x1b[2J\u202e\ud800"
    save_as({hostile: torch.ones(2), "x" * 10_000: torch.ones(1)}, here / "a\x1b[2J.bin")
    save_as({hostile: torch.zeros(2), hostile + "2": torch.ones(1)}, here / "b.bin")
    result = run("diff", here / "a\x1b[2J.bin", here / "b.bin", "--values", "--color", "never")
    assert result.exit_code == 1
    assert not {"\x1b", "\u202e", "\ud800"} & set(result.output)
    assert max(map(len, result.stdout.splitlines())) < 400


def test_colours_only_where_they_are_wanted(here: Path) -> None:
    save_as(STATE, here / "a.bin")
    assert "\x1b[32mequal" in run("diff", "a.bin", "a.bin", "--color", "always").stdout
    assert "\x1b" not in run("diff", "a.bin", "a.bin").stdout
