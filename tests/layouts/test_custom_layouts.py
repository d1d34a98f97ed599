"""Layouts that a team has defined: recognised, read and judged like the built-in ones."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import ckpt_doctor
from ckpt_doctor import NoCheckpointError, Policy, Report, UnknownNameError, load_settings, open_checkpoint
from ckpt_doctor.core.entries import Entry
from ckpt_doctor.core.layout import Layout
from ckpt_doctor.layouts import discover
from support.damages.record import Damage
from support.damages.table import INSPECTED
from support.hostile import foreign

REPOSITORY = Path(__file__).parents[2]
HEALTHY = REPOSITORY / "fixtures" / "healthy"
PAGE = (REPOSITORY / "docs" / "settings.md").read_text()


def defined(text: str, folder: Path) -> tuple[Layout, ...]:
    """The layouts of a settings file with this text."""
    file = folder / "layouts.toml"
    file.write_text(text)
    layouts = load_settings(file=file).policy.layouts
    file.unlink()
    return layouts


@pytest.fixture
def weaver(tmp_path: Path) -> Layout:
    """The weaver of the documentation."""
    found = re.search(r"<!-- weaver: .*?```toml\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    (definition,) = defined(found[1], tmp_path)
    return definition


def told(report: Report) -> list[tuple[object, ...]]:
    return [(item.code, item.severity, item.path, item.tensors, item.message, item.fix) for item in report.findings]


def codes(path: Path, *layouts: Layout, **options: object) -> list[str]:
    report = ckpt_doctor.inspect(path, Policy(layouts=layouts, **options))  # type: ignore[arg-type]
    return [finding.code for finding in report.findings]


# --- the weaver, once built in and once defined ----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("damage", INSPECTED, ids=str)
def test_every_damage_is_told_as_by_the_built_in_layout(damage: Damage, weaver: Layout, tmp_path: Path) -> None:
    path = damage.make(tmp_path)
    built_in = ckpt_doctor.inspect(path, Policy(**damage.options))
    own = ckpt_doctor.inspect(path, Policy(**damage.options, layouts=(weaver,)))
    assert told(own) == told(built_in)
    renamed = [item.layout.replace("our-weaver", "weaver") for item in own.checkpoints]
    assert renamed == [item.layout for item in built_in.checkpoints]
    if built_in.checkpoints[0].layout == "weaver":
        assert own.checkpoints[0].layout == "our-weaver"


FOLDERS = sorted(path for path in HEALTHY.rglob("*") if path.is_dir())


@pytest.mark.slow
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: str(path.relative_to(HEALTHY)))
def test_every_folder_of_the_fixtures_means_the_same(folder: Path, weaver: Layout) -> None:
    built_in, own = ckpt_doctor.inspect(folder), ckpt_doctor.inspect(folder, Policy(layouts=(weaver,)))
    assert told(own) == told(built_in)
    assert [(item.path, item.layout.replace("our-weaver", "weaver"), item.variant) for item in own.checkpoints] == [
        (item.path, item.layout, item.variant.removesuffix(", short nesting")) for item in built_in.checkpoints
    ]
    assert [[file.path for file in item.files] for item in own.checkpoints] == [
        [file.path for file in item.files] for item in built_in.checkpoints
    ]


@pytest.mark.parametrize("inner", ["", "weaver_lora", "weaver_lora/weaver", "weaver_lora/trigger"])
def test_inner_folders_mean_the_checkpoint_around_them(inner: str, weaver: Layout) -> None:
    root = HEALTHY / "weaver_and_trigger_nested" / "weaver"
    found = open_checkpoint(root / inner, layouts=(weaver,))
    assert (found.layout, Path(found.path)) == ("our-weaver", root)
    assert [(part.name, part.secondary) for part in found.parts] == [
        ("weaver adapter", False),
        ("trigger adapter", True),
        ("projections", False),
    ]


# --- a layout of several kinds of file -------------------------------------------------------------------------------


POLICY_GRADIENT = """
[[layouts]]
name = "rl"
sizes = { "hidden size" = "config.json:text.hidden_size" }

[[layouts.files]]
role = "adapter"
path = "adapters/policy"
hidden-size = "hidden size"

[[layouts.files]]
role = "value-head"
path = ["heads/value.safetensors", "heads/value.pt"]
[layouts.files.keys]
"blocks.*.weight" = ["hidden size", "hidden size"]
"summary.weight" = [1, "hidden size"]
"summary.bias" = { shape = [1], required = false }

[[layouts.files]]
role = "ema"
path = "ema.pt"
required = false
keys = ["decay"]
other-keys = true

[[layouts.files]]
role = "tokenizer"
path = "tokenizer.json"
"""


@pytest.fixture
def rl(tmp_path: Path) -> Layout:
    (definition,) = defined(POLICY_GRADIENT, tmp_path)
    return definition


def value_head(**changes: object) -> dict[str, torch.Tensor]:
    tensors: dict[str, object] = {
        "blocks.0.weight": torch.randn(32, 32),
        "blocks.1.weight": torch.randn(32, 32),
        "summary.weight": torch.randn(1, 32),
        **changes,
    }
    return {name: tensor for name, tensor in tensors.items() if isinstance(tensor, torch.Tensor)}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A healthy checkpoint of the layout ``rl``."""
    root = tmp_path / "runs" / "step-100"
    shutil.copytree(HEALTHY / "peft/lora", root / "adapters" / "policy")
    (root / "heads").mkdir()
    save_file(value_head(), root / "heads" / "value.safetensors", {"format": "pt"})
    (root / "config.json").write_text('{"text": {"hidden_size": 32}}')
    (root / "tokenizer.json").write_text("[]")
    return root


@pytest.mark.parametrize("inner", ["", "adapters", "adapters/policy", "heads", ".."])
def test_it_is_found_from_everywhere(inner: str, checkpoint: Path, rl: Layout) -> None:
    report = ckpt_doctor.inspect(checkpoint / inner, Policy(layouts=(rl,)))
    assert not report.findings
    (found,) = report.checkpoints
    assert (found.layout, Path(os.path.abspath(found.path))) == ("rl", checkpoint)
    assert [(part.name, part.role) for part in found.parts if part.files] == [
        ("policy adapter", "adapter"),
        ("value-head", "value-head"),
    ]
    assert found.files[1].path == "heads/value.safetensors"


def replace_head(checkpoint: Path, **changes: object) -> None:
    save_file(value_head(**changes), checkpoint / "heads" / "value.safetensors", {"format": "pt"})


SQUARE = torch.zeros(40, 40)

HARM = [
    (lambda root: (root / "heads/value.safetensors").unlink(), ["CKD202"]),
    (lambda root: shutil.rmtree(root / "heads"), ["CKD202"]),
    (lambda root: shutil.rmtree(root / "adapters"), ["CKD206"]),
    (lambda root: (root / "adapters/policy/adapter_config.json").unlink(), ["CKD205"]),
    (lambda root: (root / "tokenizer.json").unlink(), ["CKD202"]),
    (lambda root: (root / "config.json").unlink(), ["CKD202"]),
    (lambda root: (root / "config.json").write_text("{"), ["CKD506"]),
    (lambda root: (root / "config.json").write_text('{"text": {"hidden_size": true}}'), ["CKD506"]),
    (lambda root: (root / "config.json").write_text('{"text": {"hidden_size": -1}}'), ["CKD506"]),
    (lambda root: (root / "config.json").write_text('{"text": 3}'), ["CKD506"]),
    (lambda root: (root / "config.json").write_text('{"text": {"hidden_size": 64}}'), ["CKD504"]),
    (lambda root: replace_head(root, **{"summary.weight": None}), ["CKD301"]),
    (lambda root: replace_head(root, **{"blocks.0.weight": None}), []),
    (lambda root: replace_head(root, **{"blocks.0.weight": None, "blocks.1.weight": None}), ["CKD301"]),
    (lambda root: replace_head(root, **{"blocks.1.weight": SQUARE}), ["CKD504"]),
    (lambda root: replace_head(root, **{"blocks.7.weight": torch.zeros(32)}), ["CKD504"]),
    (lambda root: replace_head(root, **{"summary.bias": torch.zeros(1)}), []),
    (lambda root: replace_head(root, **{"summary.bias": torch.zeros(2)}), ["CKD504"]),
    (lambda root: replace_head(root, **{"blocks.0.bias": torch.zeros(2)}), ["CKD311"]),
    (lambda root: replace_head(root, **{"blocks.0.1.weight": torch.zeros(2)}), ["CKD311"]),
    (lambda root: replace_head(root, **{"blocks.*.weight": torch.zeros(32, 32)}), []),
    (lambda root: torch.save({"decay": torch.ones(1), "more": torch.ones(1)}, root / "ema.pt"), []),
    (lambda root: torch.save({"more": torch.ones(1)}, root / "ema.pt"), ["CKD301"]),
    (lambda root: (root / "ema.pt").write_bytes(b""), ["CKD102"]),
]


@pytest.mark.parametrize(("harm", "expected"), HARM, ids=range(len(HARM)))
def test_every_rule_judges_it(
    harm: Callable[[Path], object], expected: list[str], checkpoint: Path, rl: Layout
) -> None:
    harm(checkpoint)
    assert codes(checkpoint, rl) == expected
    assert codes(checkpoint.parent, rl) == expected


def test_what_is_missing_is_named(checkpoint: Path, rl: Layout) -> None:
    shutil.rmtree(checkpoint / "heads")
    (checkpoint / "tokenizer.json").unlink()
    first, second = ckpt_doctor.inspect(checkpoint, Policy(layouts=(rl,))).findings
    assert first.message == (
        "heads/value.safetensors or heads/value.pt is missing. Without it 2 tensors (blocks.*.weight, summary.weight) "
        "stay at random initialisation. This tool cannot rebuild it: save it again from the training run."
    )
    assert second.message.startswith("tokenizer.json is missing. A checkpoint of the layout rl must have it.")


def test_the_other_alternative(checkpoint: Path, rl: Layout) -> None:
    (checkpoint / "heads/value.safetensors").unlink()
    torch.save(value_head(), checkpoint / "heads/value.pt")
    assert codes(checkpoint, rl) == []
    save_file(value_head(), checkpoint / "heads/value.safetensors", {"format": "pt"})
    assert codes(checkpoint, rl) == ["CKD204"]


def test_a_nested_dictionary_is_named_by_its_path(checkpoint: Path, rl: Layout) -> None:
    (checkpoint / "heads/value.safetensors").unlink()
    blocks = {"0": {"weight": torch.randn(32, 32)}}
    torch.save({"blocks": blocks, "summary": {"weight": torch.randn(1, 32)}}, checkpoint / "heads/value.pt")
    assert codes(checkpoint, rl) == []


def test_a_folder_that_nobody_can_list_is_not_absent(
    checkpoint: Path, rl: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if Path(path).name == "heads":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr("os.scandir", refuse)
    assert codes(checkpoint, rl, fail_on="never") == ["CKD112"]
    assert codes(checkpoint.parent, rl) == ["CKD112"]


@pytest.mark.parametrize("place", ["heads/new.bin", "heads/notes.pkl", "heads/value.pt", "adapters/new.pt", "ema.pt"])
def test_a_foreign_name_is_found_in_every_folder_of_it(place: str, checkpoint: Path, rl: Layout) -> None:
    (checkpoint / place).write_bytes(b"\x80\x02" + foreign() + b".")
    assert "CKD901" in codes(checkpoint, rl)


def test_what_lies_deeper_than_its_folders_is_looked_at_too(checkpoint: Path, rl: Layout) -> None:
    shutil.copytree(HEALTHY / "transformers/single_safetensors", checkpoint / "adapters" / "old" / "model")
    (checkpoint / "adapters/old/model/model.safetensors").write_bytes(b"")
    report = ckpt_doctor.inspect(checkpoint, Policy(layouts=(rl,)))
    assert [item.layout for item in report.checkpoints] == ["rl", "transformers"]
    assert "CKD102" in {finding.code for finding in report.findings}


def test_links_do_not_lead_out_unnoticed(checkpoint: Path, rl: Layout, tmp_path: Path) -> None:
    (checkpoint / "heads/value.safetensors").rename(tmp_path / "blob")
    (checkpoint / "heads/value.safetensors").symlink_to(tmp_path / "blob")
    assert codes(checkpoint, rl) == ["CKD905"]


def test_expect(checkpoint: Path, tmp_path: Path) -> None:
    (safe,) = defined(POLICY_GRADIENT.replace('name = "rl"', 'name = "rl"\nexpect = "bin"'), tmp_path)
    assert codes(checkpoint, safe) == ["CKD201"]
    assert codes(checkpoint, safe, expect="any") == []


# --- models, nested adapters, trees ----------------------------------------------------------------------------------


MODEL = """
[[layouts]]
name = "tower"
marker = "tower"
[[layouts.files]]
role = "model"
name = "lm"
path = "tower"
keys = ["lm_head.weight"]
[[layouts.files]]
role = "model"
name = "critic"
path = ["critic.safetensors", "critic.bin"]
"""


@pytest.mark.parametrize("fixture", ["sharded_safetensors", "sharded_bin", "single_safetensors"])
def test_a_model_in_a_folder(fixture: str, tmp_path: Path) -> None:
    (tower,) = defined(MODEL, tmp_path)
    root = tmp_path / "run"
    shutil.copytree(HEALTHY / "transformers" / fixture, root / "tower")
    shutil.copy(HEALTHY / "transformers/single_safetensors/model.safetensors", root / "critic.safetensors")
    assert codes(root, tower) == []
    assert codes(root / "tower", tower) == []
    (found,) = discover(root, layouts=(tower,))
    assert found.layout == "tower"
    assert [part.name for part in found.parts] == ["lm", "critic"]
    assert {file.path.partition("/")[0] for file in found.files} == {"tower", "critic.safetensors"}


def test_shards_of_a_model_in_a_folder(tmp_path: Path) -> None:
    (tower,) = defined(MODEL, tmp_path)
    root = tmp_path / "run"
    shutil.copytree(HEALTHY / "transformers/sharded_safetensors", root / "tower")
    (root / "tower/model-00002-of-00003.safetensors").unlink()
    found = ckpt_doctor.inspect(root, Policy(layouts=(tower,))).findings
    assert {(item.code, item.path) for item in found} >= {
        ("CKD701", "tower/model.safetensors.index.json"),
        ("CKD208", "critic.safetensors"),
    }
    shutil.rmtree(root / "tower")
    (root / "tower").mkdir()
    assert [(item.code, item.path) for item in ckpt_doctor.inspect(root, Policy(layouts=(tower,))).findings] == [
        ("CKD208", "critic.safetensors"),
        ("CKD208", "tower/model.safetensors"),
    ]


TWO_ADAPTERS = """
[[layouts]]
name = "pair"
marker = "lora"
files = [
  { role = "adapter", path = "lora", name = "actor", nested = true },
  { role = "adapter", path = "lora", name = "critic", nested = true },
]
"""


def test_two_adapters_in_one_folder(tmp_path: Path) -> None:
    (pair,) = defined(TWO_ADAPTERS, tmp_path)
    for name in ("actor", "critic", "old"):
        shutil.copytree(HEALTHY / "peft/lora", tmp_path / "run" / "lora" / name)
    found = open_checkpoint(tmp_path / "run", layouts=(pair,))
    assert [(part.name, part.secondary) for part in found.parts] == [
        ("actor adapter", False),
        ("old adapter", True),
        ("critic adapter", False),
    ]
    assert codes(tmp_path / "run", pair) == []
    shutil.rmtree(tmp_path / "run/lora/critic")
    assert codes(tmp_path / "run", pair) == ["CKD206"]


OWN_FOLDER = """
[[layouts]]
name = "flat"
files = [{ role = "adapter", name = "policy", path = "." }, { role = "head", path = "head.pt" }]
"""


def test_an_adapter_in_the_checkpoints_own_folder(tmp_path: Path) -> None:
    (flat,) = defined(OWN_FOLDER, tmp_path)
    run = tmp_path / "run"
    for folder in (run, run / "checkpoint-5"):
        shutil.copytree(HEALTHY / "peft/lora", folder, dirs_exist_ok=True)
        torch.save({"weight": torch.randn(2)}, folder / "head.pt")
    report = ckpt_doctor.inspect(run, Policy(layouts=(flat,)))
    assert [(Path(item.path).name, item.layout) for item in report.checkpoints] == [
        ("run", "flat"),
        ("checkpoint-5", "flat"),
    ]
    assert not report.findings
    (run / "checkpoint-5" / "head.pt").unlink()
    # Without its marker it looks like any other adapter; who says what it is learns what it lacks.
    assert codes(run, flat) == []
    assert codes(run / "checkpoint-5", flat, layout="flat") == ["CKD202"]


def test_peft_nests_an_adapter_in_the_checkpoints_own_folder(tmp_path: Path) -> None:
    (flat,) = defined(OWN_FOLDER, tmp_path)
    (nested,) = defined(OWN_FOLDER.replace('path = "."', 'path = ".", nested = true'), tmp_path)
    run = tmp_path / "run"
    shutil.copytree(HEALTHY / "peft/lora", run / "policy")
    torch.save({"weight": torch.randn(2)}, run / "head.pt")
    for folder in (run, run / "policy"):
        assert codes(folder, flat) == ["CKD203"]
        assert codes(folder, nested) == []


def test_a_tree_of_several_kinds(checkpoint: Path, rl: Layout, weaver: Layout) -> None:
    tree = checkpoint.parent
    shutil.copytree(HEALTHY / "weaver_nested/weaver", tree / "a" / "weaver")
    shutil.copytree(HEALTHY / "trigger_run/trigger", tree / "trigger")
    shutil.copytree(HEALTHY / "peft/ia3", tree / "ia3")
    found = discover(tree, layouts=(weaver, rl))
    assert [(Path(item.path).name, item.layout) for item in found] == [
        ("weaver", "our-weaver"),
        ("ia3", "peft"),
        ("step-100", "rl"),
        ("trigger", "trigger"),
    ]
    assert [item.layout for item in discover(tree, "rl", layouts=(weaver, rl))] == ["rl"]


def test_a_folder_of_two_layouts_is_two_checkpoints(checkpoint: Path, rl: Layout, weaver: Layout) -> None:
    shutil.copytree(HEALTHY / "weaver_safetensors/weaver", checkpoint, dirs_exist_ok=True)
    assert [item.layout for item in discover(checkpoint, layouts=(rl, weaver))] == ["our-weaver", "rl"]
    assert open_checkpoint(checkpoint, "rl", layouts=(rl, weaver)).layout == "rl"
    with pytest.raises(NoCheckpointError, match="2 checkpoints"):
        open_checkpoint(checkpoint, layouts=(rl, weaver))


def test_a_layout_is_forced_by_its_name(tmp_path: Path, rl: Layout) -> None:
    shutil.copytree(HEALTHY / "peft/lora", tmp_path / "run")
    assert sorted(codes(tmp_path / "run", rl, layout="rl")) == ["CKD202", "CKD202", "CKD202", "CKD206"]
    with pytest.raises(UnknownNameError, match=r"there is no layout 'r1'; choose one of .*, rl$"):
        codes(tmp_path / "run", rl, layout="r1")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoCheckpointError):
        codes(tmp_path / "empty", rl, layout="rl")


def test_by_the_name_of_the_folder(tmp_path: Path) -> None:
    (step,) = defined(
        '[[layouts]]\nname = "step"\nfolder = "step-*"\nfiles = [{ role = "model", path = "model.safetensors" }]\n',
        tmp_path,
    )
    assert step.markers == ()
    for name in ("step-5", "model"):
        (tmp_path / name).mkdir()
        shutil.copy(HEALTHY / "transformers/single_safetensors/model.safetensors", tmp_path / name)
    (tmp_path / "step-empty").mkdir()
    assert [(Path(item.path).name, item.layout) for item in discover(tmp_path, layouts=(step,))] == [
        ("model", "transformers"),
        ("step-5", "step"),
    ]


def test_definitions_can_be_pickled(weaver: Layout, rl: Layout) -> None:
    policy = Policy(layouts=(weaver, rl))
    assert pickle.loads(pickle.dumps(policy)) == policy


def test_the_json_report_names_layout_and_roles(checkpoint: Path, rl: Layout) -> None:
    (document,) = json.loads(ckpt_doctor.inspect(checkpoint, Policy(layouts=(rl,))).to_json())["checkpoints"]
    assert (document["layout"], document["variant"], document["healthy"]) == ("rl", "rl", True)
    assert {file["role"] for file in document["files"]} == {"adapter", "value-head"}


@pytest.mark.parametrize(
    ("pattern", "name", "meant"),
    [
        ("a.b", "a.b", True),
        ("a.b", "aXb", False),
        ("layers.*.weight", "layers.0.weight", True),
        ("layers.*.weight", "layers.a-b c.weight", True),
        ("layers.*.weight", "layers..weight", True),
        ("layers.*.weight", "layers.0.mlp.weight", False),
        ("layers.*.weight", "layers.weight", False),
        ("layers.*.weight", "x.layers.0.weight", False),
        ("layers.*.weight", "layers.0.weight\n", False),
        ("layers.*.weight", "layers.\n.weight", True),
        ("block_*.w", "block_12.w", True),
        ("block_*.w", "block.w", False),
        ("*", "weight", True),
        ("*", "a.b", False),
        ("a+.*", "aa.x", False),
    ],
)
def test_what_a_star_means(pattern: str, name: str, meant: bool) -> None:
    assert Entry(pattern).matches(name) == meant
    assert Entry(pattern).is_among({name}) == meant


def test_what_lies_on_the_way_to_an_entry() -> None:
    entry = Entry("blocks.*.weight")
    assert [
        entry.matches_start(name) for name in ("blocks", "blocks.3", "blocks.3.weight", "block", "blocks.3.x.y")
    ] == [
        True,
        True,
        False,
        False,
        False,
    ]
