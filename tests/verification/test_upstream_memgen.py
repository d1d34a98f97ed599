"""MemGen's own folders, with models of several kinds: what arrives by which loader, and which base each part is on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import ckpt_doctor
from ckpt_doctor.core.coverage import Coverage
from ckpt_doctor.core.errors import VerificationError
from ckpt_doctor.verification import load_coverage, verify
from support.command_line import run as ckpt
from support.zoo.common import quiet
from support.zoo.upstream import NAMES, Upstream, after_a_load, base, write_yaml

pytestmark = pytest.mark.slow


class Run:
    """A run whose trigger is on the reasoner's model and whose weaver is on a smaller one, with its base models."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.reasoner, self.weaver = root / "large", root / "small"
        for path, model in ((self.reasoner, self.large()), (self.weaver, self.small())):
            model.save_pretrained(path)
        self.saved = Upstream(self.large(), self.small(), self.large()).save(root / "run/model")
        self.second = after_a_load(self.saved, root / "second/model", self.large(), self.small(), self.large())
        self.yaml = write_yaml(root / "run.yaml", self.reasoner, self.weaver, self.reasoner)

    def large(self) -> Any:
        return base("llama", 48, seed=2, name=str(self.root / "large"))

    def small(self) -> Any:
        return base("qwen2", 32, layers=3, seed=1, name=str(self.root / "small"))

    def fork(self, directory: Path) -> Path:
        """What a trigger run of the fork leaves in one folder."""
        model = Upstream(self.large(), self.small(), self.large())
        for name in NAMES:
            adapted = getattr(model, name).model
            adapted.save_pretrained(directory / f"{name}_lora", safe_serialization=False, save_embedding_layers=False)
        weaver: Any = model.weaver
        state = {name: getattr(model, name).state_dict() for name in ("reasoner_to_weaver", "weaver_to_reasoner")}
        latents = {
            f"{bank}_query_latents": getattr(weaver, f"{bank}_query_latents").data for bank in ("prompt", "inference")
        }
        torch.save({**state, **latents}, directory / "projections.pt")
        return directory


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    made: list[Run] = []

    def make(root: Path) -> Path:
        made.append(Run(root))
        return root

    quiet(make)(tmp_path_factory.mktemp("memgen"))
    return made[0]


def by_component(coverage: Coverage) -> dict[str, tuple[int, int]]:
    return {item.name: (item.restored, item.expected) for item in coverage.components}


SIDE = {"projections": (4, 4), "query latents": (2, 2), "latent norms": (6, 6), "trigger head": (2, 2)}


@pytest.mark.parametrize("mode", ["load", "keys", "forward"])
def test_a_trigger_on_the_reasoners_model_and_a_weaver_on_another(run: Run, mode: str) -> None:
    coverage = verify(run.saved, str(run.yaml), mode=mode)
    assert by_component(coverage) == {**SIDE, "weaver adapter": (12, 12), "trigger adapter": (8, 8)}
    assert coverage.complete
    assert not coverage.findings


def test_what_the_adapters_say_is_enough(run: Run) -> None:
    for coverage in (verify(run.saved, str(run.reasoner)), verify(run.saved)):
        assert coverage.complete
        assert f"the weaver was built on {run.weaver}, which its adapter_config.json names" in coverage.log


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "Give the reasoner's model with --model"),
        ({"model": "small"}, "Give the reasoner's model with --model, and this one with --weaver-model"),
        ({"model": "large"}, "with --weaver-model"),
        ({"model": "large", "weaver_model": "small"}, None),
    ],
)
def test_what_is_not_known_is_asked_for(run: Run, tmp_path: Path, options: dict[str, str], said: str | None) -> None:
    """Here the adapters name models of the hub, and nothing says that these are not there."""
    model = quiet(lambda where: Upstream(run.large(), run.small(), run.large()).save(where))(tmp_path / "model")
    for name in NAMES:
        path = model / name / name / "adapter_config.json"
        where = "small" if name == "weaver" or not options else "large"
        named = str(run.weaver) if not options and name == "weaver" else f"hub/{where}-model"
        path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": named}))
    given = {key: str(run.root / value) for key, value in options.items()}
    if said is None:
        assert verify(model, **given).complete
        return
    with pytest.raises(VerificationError, match=said):
        verify(model, **given)


def test_the_wrong_model_for_the_trigger_is_a_finding_where_it_was_named(run: Run) -> None:
    coverage = verify(run.saved, str(run.yaml), trigger_model=str(run.weaver))
    assert "CKD004" in {item.code for item in coverage.findings}
    assert by_component(coverage)["weaver adapter"] == (12, 12)


def test_upstreams_own_loader_restores_no_lora(run: Run) -> None:
    coverage = verify(run.saved, str(run.yaml), loader="memgen-upstream")
    assert by_component(coverage) == {**SIDE, "weaver adapter": (0, 12), "trigger adapter": (0, 8)}
    assert not coverage.complete
    assert any("PeftModel.from_pretrained was called on a LoraModel" in line for line in coverage.log)


def test_an_untrained_trigger_is_not_restored_by_accident(run: Run, tmp_path: Path) -> None:
    def save(where: Path) -> Path:
        return Upstream(run.large(), run.small(), run.large(), trigger_active=False).save(where)

    coverage = verify(quiet(save)(tmp_path / "model"), str(run.yaml), loader="memgen-upstream")
    assert by_component(coverage)["trigger adapter"] == (0, 8)


def test_a_folder_saved_after_such_a_load(run: Run) -> None:
    restored = {**SIDE, "weaver adapter": (12, 12), "trigger adapter": (8, 8)}
    lost = {**SIDE, "weaver adapter": (0, 12), "trigger adapter": (0, 8)}
    assert by_component(verify(run.second, str(run.yaml), loader="memgen-upstream")) == restored
    assert by_component(verify(run.second, str(run.yaml))) == lost
    report = ckpt_doctor.inspect(run.second)
    assert [(item.code, item.severity.value) for item in report.findings] == [("CKD305", "warning")] * 2
    assert "--loader memgen-upstream" in report.findings[0].message
    assert not ckpt_doctor.inspect(run.saved).findings


def test_what_the_forks_loader_does(run: Run, tmp_path: Path) -> None:
    folder = quiet(run.fork)(tmp_path / "trigger")
    coverage = verify(folder, str(run.yaml), loader="memgen-fork")
    lost = {"weaver adapter": (0, 12), "trigger adapter": (0, 8)}
    assert by_component(coverage) == {**lost, "projections": (4, 4), "query latents": (2, 2)}
    assert {item.code for item in coverage.findings} == {"CKD001", "CKD005"}
    run.yaml.with_name("short.yaml").write_text(
        run.yaml.read_text().replace(f"{run.weaver}\n", f"{run.weaver}\n    prompt_latents_len: 4\n")
    )
    short = verify(folder, str(run.yaml.with_name("short.yaml")), loader="memgen-fork")
    assert any("assigns to .data, which checks nothing" in line for line in short.log)
    absent = verify(run.saved, str(run.yaml), loader="memgen-fork")
    assert absent.restored == 0
    assert [item.code for item in absent.findings] == ["CKD002"]


def test_a_forks_trigger_run_in_one_folder(run: Run, tmp_path: Path) -> None:
    folder = quiet(run.fork)(tmp_path / "trigger")
    both = {"weaver adapter": (12, 12), "projections": (4, 4), "query latents": (2, 2), "trigger adapter": (8, 8)}
    for mode in ("load", "keys"):
        coverage = verify(folder, str(run.yaml), mode=mode)
        assert by_component(coverage) == both
        assert coverage.complete
    for inner, layout, expected in (("weaver_lora", "weaver", 18), ("trigger_lora", "trigger", 8)):
        assert verify(folder / inner, str(run.yaml)).expected == expected
        assert verify(folder, str(run.yaml), layout=layout).expected == expected
        assert ckpt_doctor.open_checkpoint(folder / inner).layout == layout
    with pytest.raises(ckpt_doctor.CkptDoctorError, match=r"name one of them \(.*/trigger_lora, .*/weaver_lora\)"):
        ckpt_doctor.open_checkpoint(folder)
    assert load_coverage(run.small(), folder).expected == 26
    (folder / "weaver_lora/weaver/adapter_model.bin").unlink()
    broken = verify(folder, str(run.yaml))
    assert "CKD206" in {item.code for item in broken.findings}


def test_the_report_says_whose_loader_it_was(run: Run) -> None:
    def said(*more: str) -> Any:
        return ckpt("verify", run.saved, "--model", run.yaml, *more)

    own = said()
    lines = own.stdout.splitlines()
    assert own.exit_code == 0, own.output
    assert "by ckpt-doctor's own MemGen loader (auto; no library has a loader for it)" in " ".join(lines[:3])
    assert lines[-1] == "This proves the files, not the loader of your evaluation: name that with --loader"
    document = json.loads(said("--output-format", "json").stdout)
    assert (document["loader"], document["own_loader"], document["caveat"]) == ("auto", True, lines[-1])
    theirs = said("--loader", "memgen-upstream")
    assert theirs.exit_code == 1
    assert "not complete: 20 tensors did not arrive" in theirs.stdout
    assert "own MemGen loader" not in theirs.stdout
    keys = said("--loader", "memgen-upstream", "--mode", "keys")
    assert (keys.exit_code, "--mode load" in keys.stderr) == (2, True)
    other = ckpt("verify", run.reasoner, "--model", run.reasoner, "--loader", "memgen-fork")
    assert other.exit_code == 2


@pytest.mark.parametrize(
    ("kinds", "options"),
    [
        (("gemma", "llama", "qwen2"), {"lora": {"r": 16, "target_modules": ["q_proj", "down_proj"]}}),
        (("mistral", "gemma2", "mistral"), {"lengths": (1, 32), "lora": {"r": 1, "use_rslora": True}}),
        (("qwen2", "qwen2", "qwen2"), {"lengths": (8, 4), "dtype": torch.bfloat16}),
    ],
    ids=str,
)
def test_healthy_runs_of_other_kinds(kinds: tuple[str, ...], options: dict[str, Any], tmp_path: Path) -> None:
    dtype = options.pop("dtype", torch.float32) if "dtype" in (options := dict(options)) else torch.float32
    sizes = (32, 24, 40)
    paths = [tmp_path / f"{number}-{kind}" for number, kind in enumerate(kinds)]

    def save(where: Path) -> Path:
        models = [
            base(kind, size, seed=size, name=str(path)).to(dtype)
            for kind, size, path in zip(kinds, sizes, paths, strict=True)
        ]
        for model, path in zip(models, paths, strict=True):
            model.save_pretrained(path)
        return Upstream(*models, **options).save(where)

    model = quiet(save)(tmp_path / "model")
    assert not ckpt_doctor.inspect(model).findings
    yaml = write_yaml(tmp_path / "run.yaml", *paths)
    for mode in ("load", "keys", "forward"):
        coverage = verify(model, str(yaml), mode=mode)
        assert coverage.complete, [mode, *coverage.table(), *coverage.findings, *coverage.log]
        assert not coverage.findings
