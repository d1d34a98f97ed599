"""The committed checkpoints are what the script makes, and the libraries load the healthy ones whole."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
HEALTHY = FIXTURES / "healthy"
FAILURES = FIXTURES / "failures"
ADAPTERS = sorted(path.parent for path in HEALTHY.rglob("adapter_config.json"))
MODELS = sorted(path.parent for path in (HEALTHY / "transformers").rglob("config.json"))
PROJECTIONS = sorted(HEALTHY.rglob("projections.pt"))
WEIGHTS = (".safetensors", ".bin", ".pt")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file by dotted name."""
    if path.suffix == ".safetensors":
        return safetensors_torch.load_file(path)
    return dict(flat(torch.load(path, map_location="cpu", weights_only=True)))


def flat(value: object, path: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield path, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from flat(item, f"{path}.{key}" if path else str(key))


def contents(root: Path) -> dict[str, object]:
    """Every file; for weights names, dtypes and shapes. What configs say differs from release to release."""
    found: dict[str, object] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.suffix in WEIGHTS:
            found[name] = {key: (tensor.dtype, tuple(tensor.shape)) for key, tensor in read(path).items()}
        elif path.is_file():
            found[name] = None
    return found


@pytest.mark.slow
def test_the_script_makes_what_is_committed(tmp_path: Path) -> None:
    script = [sys.executable, str(FIXTURES / "make_fixtures.py"), str(tmp_path)]
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(script, capture_output=True, text=True, env=environment, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    for group in ("healthy", "failures"):
        made = contents(tmp_path / group)
        assert made
        assert made == contents(FIXTURES / group)


@pytest.mark.slow
@pytest.mark.parametrize("path", ADAPTERS, ids=lambda path: path.relative_to(HEALTHY).as_posix())
def test_peft_loads_every_value(path: Path) -> None:
    import peft
    from tiny_models import qwen2

    saved = read(next(file for file in path.iterdir() if file.name.startswith("adapter_model.")))
    model = peft.PeftModel.from_pretrained(qwen2(seed=1), path)
    embeddings = any(".base_layer." in name and "embed_tokens" in name for name in saved)
    loaded = peft.get_peft_model_state_dict(model, save_embedding_layers=embeddings)
    assert saved.keys() == loaded.keys()
    assert all(torch.equal(saved[name], loaded[name]) for name in saved)
    assert all(tensor.any() for tensor in saved.values()), "something is at its initial zeros"


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.name)
def test_transformers_loads_every_value(path: Path) -> None:
    import transformers

    saved: dict[str, torch.Tensor] = {}
    for file in path.iterdir():
        if file.suffix in WEIGHTS:
            saved.update(read(file))
    model, info = transformers.AutoModelForCausalLM.from_pretrained(path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    state = model.state_dict()
    assert saved.keys() <= state.keys()
    assert all(torch.equal(saved[name], state[name]) for name in saved)


@pytest.mark.parametrize("path", PROJECTIONS, ids=lambda path: path.relative_to(HEALTHY).as_posix())
def test_projections_fit_their_modules(path: Path) -> None:
    saved = torch.load(path, map_location="cpu", weights_only=True)
    hidden, reasoner = saved["reasoner_to_weaver"]["weight"].shape
    torch.nn.Linear(reasoner, hidden).load_state_dict(saved["reasoner_to_weaver"])
    torch.nn.Linear(hidden, reasoner).load_state_dict(saved["weaver_to_reasoner"])
    for bank in ("prompt", "inference"):
        assert saved[f"{bank}_query_latents"].shape == (8, hidden)


def test_the_storages_of_a_gpu_run_are_tagged() -> None:
    places: set[str] = set()

    def note(storage: object, place: str) -> object:
        places.add(place)
        return storage

    path = HEALTHY / "weaver_bf16_cuda/weaver/projections.pt"
    saved = dict(flat(torch.load(path, map_location=note, weights_only=True)))
    assert places == {"cuda:0"}
    assert {tensor.dtype for tensor in saved.values()} == {torch.bfloat16}


def test_the_whole_model_shares_its_base() -> None:
    saved = read(HEALTHY / "memgen_whole_bin/pytorch_model.bin")
    embeddings = {name: tensor for name, tensor in saved.items() if name.endswith("embed_tokens.weight")}
    assert {name.partition(".")[0] for name in embeddings} == {"reasoner", "weaver", "trigger"}
    assert len({tensor.untyped_storage().data_ptr() for tensor in embeddings.values()}) == 1


def test_the_failures_lack_what_their_names_say() -> None:
    files = {
        path.name: {file.name for file in (path / "weaver").rglob("*") if file.is_file()} for path in FAILURES.iterdir()
    }
    assert files == {
        "bin_instead_of_safetensors": {"adapter_model.bin", "adapter_config.json", "projections.pt"},
        "no_projections": {"adapter_model.safetensors", "adapter_config.json"},
        "both": {"adapter_model.bin", "adapter_config.json"},
    }


def test_they_stay_small() -> None:
    assert sum(path.stat().st_size for path in FIXTURES.rglob("*") if path.is_file()) < 2_000_000
