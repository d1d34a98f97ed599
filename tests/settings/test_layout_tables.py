"""``[[layouts]]`` as definitions, and what each mistake in them is told."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckpt_doctor import Policy, SettingsError
from ckpt_doctor.core.entries import Entry
from ckpt_doctor.core.layout import Layout, LayoutPart, LayoutSize
from ckpt_doctor.settings.keys import KEYS, parse_file
from ckpt_doctor.settings.layout_tables import _FILE_KEYS, _LAYOUT_KEYS, layouts
from ckpt_doctor.settings.values import Place

PLACE = Place("x.toml").at("layouts")


def layout(**keys: Any) -> dict[str, Any]:
    return {"name": "ours", "files": [file()], **keys}


def file(**keys: Any) -> dict[str, Any]:
    given = {"role": "head", "path": "head.pt", **keys}
    return {name.replace("_", "-"): value for name, value in given.items() if value is not None}


def adapter(**keys: Any) -> dict[str, Any]:
    return file(role="adapter", **{"path": "lora", **keys})


def test_the_shortest() -> None:
    (found,) = layouts([layout()], PLACE)
    assert found == Layout("ours", (LayoutPart("head", ("head.pt",), "file", "head"),), ("head.pt",))


def test_the_longest() -> None:
    (found,) = layouts(
        [
            layout(
                title="Ours",
                expect="bin",
                marker=["a/", "b.pt"],
                folder="step-*",
                sizes={"width": "a/config.json:text.hidden_size"},
                files=[
                    adapter(path=["lora/policy/", "."], name="policy", nested=True, hidden_size="width"),
                    file(
                        path=["h.safetensors", "h.pt"],
                        name="the head",
                        required=False,
                        other_keys=True,
                        keys={"a.*.w": ["width", 2], "b": {"shape": [], "required": False}, "c": {}},
                    ),
                    file(role="config", path="a/config.json"),
                    file(role="model", path=".", keys=["lm_head.weight"], other_keys=False),
                ],
            )
        ],
        PLACE,
    )
    entries = (Entry("a.*.w", ("width", 2)), Entry("b", (), required=False), Entry("c"))
    assert found == Layout(
        "ours",
        (
            LayoutPart("adapter", ("lora/policy", ""), "folder", "policy", nested=True, hidden_size="width"),
            LayoutPart("head", ("h.safetensors", "h.pt"), "file", "the head", required=False, entries=entries),
            LayoutPart("config", ("a/config.json",), "document", "config"),
            LayoutPart("model", ("",), "folder", "model", entries=(Entry("lm_head.weight"),), complete=True),
        ),
        ("a", "b.pt"),
        "step-*",
        "Ours",
        "bin",
        (LayoutSize("width", "a/config.json", ("text", "hidden_size")),),
    )


@pytest.mark.parametrize(
    ("files", "markers"),
    [
        ([adapter(), file()], ("lora", "head.pt")),
        ([adapter(path=["lora", "."]), file(path=["h.pt", "h.bin"])], ("lora", "h.pt", "h.bin")),
        ([file(), file(role="b", path="b.pt", required=False)], ("head.pt",)),
        ([file(), file(role="model", path="model.safetensors")], ("head.pt",)),
        ([file(), file(role="model", path="tower")], ("head.pt", "tower")),
        ([file(), file(role="config", path="config.json")], ("head.pt",)),
        ([file(role="model", path="a/model.safetensors")], ("a/model.safetensors",)),
    ],
)
def test_what_tells_it_from_others(files: list[dict[str, Any]], markers: tuple[str, ...]) -> None:
    assert layouts([layout(files=files)], PLACE)[0].markers == markers


def test_what_its_keys_say_of_others() -> None:
    files = [file(), file(role="b", path="b.pt", keys=["x"]), adapter(keys=["*.lora_A.weight"])]
    assert [part.complete for part in layouts([layout(files=files)], PLACE)[0].parts] == [False, True, False]


MISTAKES: list[tuple[Any, str]] = [
    ({}, "layouts: this must be a list of tables"),
    ([], "layouts: this must be a list of tables, with at least one"),
    ([1], "layouts[1]: this must be a table, not a number"),
    ([layout(), layout(nmae="x")], "layouts[2].nmae: there is no such key; did you mean name?"),
    ([layout(), layout()], "layouts[2].name: there is a layout ours already"),
    ([layout(name="weaver")], "layouts[1].name: there is a layout weaver already"),
    ([layout(name="file")], "layouts[1].name: there is a layout file already"),
    ([layout(name="a b")], "layouts[1].name: 'a b' must be one word"),
    ([layout(name="../a")], "layouts[1].name: '../a' must be one word"),
    ([layout(name="")], "layouts[1].name: this must not be empty"),
    ([{"files": []}], "layouts[1]: name is missing"),
    ([{"name": "a"}], "layouts[1]: files is missing"),
    ([layout(files=[])], "layouts[1].files: this must be a list of tables, with at least one"),
    ([layout(files="a.pt")], "layouts[1].files: this must be a list of tables"),
    ([layout(expect="gguf")], "layouts[1].expect: 'gguf' is not one of safetensors, bin, any"),
    ([layout(title=3)], "layouts[1].title: this must be a string"),
    ([layout(folder="a/b")], "layouts[1].folder: this is the name of a folder"),
    ([layout(marker="../a")], "layouts[1].marker: '../a' must be a path below the checkpoint"),
    ([layout(marker=".")], "layouts[1].marker: '.' must be a path below the checkpoint"),
    ([layout(marker=[])], "layouts[1].marker: nothing tells this layout from others"),
    ([layout(files=[adapter(path=".")])], "layouts[1].marker: nothing tells this layout from others"),
    ([layout(files=[file(required=False)])], "layouts[1].marker: nothing tells this layout from others"),
    ([layout(files=[file(role="model", path="model.safetensors")])], "layouts[1].marker: nothing tells"),
    ([layout(sizes={"a": "config.json"})], "layouts[1].sizes.a: this must be a JSON file and a key in it"),
    ([layout(sizes={"a": "config.yaml:b"})], "layouts[1].sizes.a: this must be a JSON file"),
    ([layout(sizes={"a": "config.json:b..c"})], "layouts[1].sizes.a: this must be a JSON file"),
    ([layout(sizes={"a b": "../config.json:b"})], 'layouts[1].sizes."a b": '),
    ([layout(sizes={"a": 3})], "layouts[1].sizes.a: this must be a string"),
    ([layout(files=[{"path": "a.pt"}])], "layouts[1].files[1]: role is missing"),
    ([layout(files=[{"role": "a"}])], "layouts[1].files[1]: path is missing"),
    ([layout(files=[file(paths="a.pt")])], "files[1].paths: there is no such key; did you mean path?"),
    ([layout(files=[file(role="extra")])], "files[1].role: extra is reserved for files that no layout names"),
    ([layout(files=[file(role="training-state")])], "files[1].role: training-state is reserved for files"),
    ([layout(files=[file(role="a/b")])], "files[1].role: 'a/b' must be one word"),
    ([layout(files=[file(path=[])])], "files[1].path: name at least one"),
    ([layout(files=[file(path=["a.pt", "a.pt"])])], "files[1].path: name at least one, and each only once"),
    ([layout(files=[file(path=["a.pt", 3])])], "files[1].path[2]: this must be a string"),
    ([layout(files=[file(path=["a.pt", "a.json"])])], "files[1].path: these are alternatives"),
    ([layout(files=[file(role="model", path=["a", "a.bin"])])], "files[1].path: these are alternatives"),
    ([layout(files=[file(path=".")])], "files[1].path: '.' must be a path below the checkpoint"),
    ([layout(files=[adapter(path="lora/adapter_model.bin")])], "files[1].path: an adapter is named by its folder"),
    ([layout(files=[adapter(path="lora/adapter_config.json")])], "files[1].path: an adapter is named by its folder"),
    ([layout(files=[file(path="a/b/c/d/e.pt")])], "files[1].path: a/b/c/d lies too deep"),
    ([layout(files=[adapter(path="a/b/c")])], "files[1].path: a/b/c lies too deep: at most 2 folders"),
    ([layout(files=[file(required="yes")])], "files[1].required: this must be true or false, not a string"),
    ([layout(files=[file(nested=True)])], "files[1].nested: only an adapter can have this"),
    ([layout(files=[file(hidden_size="a")])], "files[1].hidden-size: only an adapter can have this"),
    ([layout(files=[adapter(name="a/b")])], "files[1].name: 'a/b' must be one word"),
    ([layout(files=[file(), file(role="b")])], "files[2].path: head.pt is listed twice"),
    ([layout(files=[adapter(name="a"), adapter(name="b")])], "files[2].path: two adapters are in lora"),
    ([layout(files=[adapter(), adapter(path="x/lora")])], "files[2].path: two adapters are called lora"),
    ([layout(files=[file(path="a.yaml", keys=["b"])])], "files[1].keys: a.yaml is a document"),
    ([layout(files=[file(keys=[])])], "files[1].keys: name at least one"),
    ([layout(files=[file(keys={})])], "files[1].keys: name at least one"),
    ([layout(files=[file(keys=3)])], "files[1].keys: this must be a string or a list of strings"),
    ([layout(files=[file(keys=["a", "a"])])], "files[1].keys: a is listed twice"),
    ([layout(files=[file(keys=["a..b"])])], "files[1].keys: 'a..b': a name is made of words"),
    ([layout(files=[file(keys=["a.**.b"])])], "files[1].keys: 'a.**.b': a name is made of words"),
    ([layout(files=[file(keys={"a": 3})])], "files[1].keys.a: this must be a table, not a number"),
    (
        [layout(files=[file(keys={"a": {"shpae": []}})])],
        "files[1].keys.a.shpae: there is no such key; did you mean shape",
    ),
    ([layout(files=[file(keys={"a": {"shape": 3}})])], "files[1].keys.a.shape: a shape is a list"),
    ([layout(files=[file(keys={"a": [1, -1]})])], "files[1].keys.a[2]: a dimension is a number, or a name"),
    ([layout(files=[file(keys={"a": [True]})])], "files[1].keys.a[1]: a dimension is a number, or a name"),
    ([layout(files=[file(keys={"a": [1.5]})])], "files[1].keys.a[1]: a dimension is a number, or a name"),
    ([layout(files=[file(keys={"a.b": {"required": 0}})])], 'files[1].keys."a.b".required: this must be true or false'),
    ([layout(files=[file(other_keys=True)])], "files[1].other-keys: this needs keys"),
]


@pytest.mark.parametrize(("value", "problem"), MISTAKES, ids=[problem for _, problem in MISTAKES])
def test_a_mistake_is_named_with_its_place(value: Any, problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        layouts(value, PLACE)
    assert str(caught.value).startswith("x.toml: layouts")
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    "path",
    [
        "/no/such",
        "..",
        "../a",
        "a/../../b",
        "a/./b",
        "./a",
        "a//b",
        "C:/a",
        "c:a",
        "a\\b",
        "\\\\host\\a",
        "",
        " ",
        "a\0b",
        "a\nb",
        "a\u202eb",
        "*.pt",
        "a?",
        "[a]",
        ".ckpt-doctor/a",
        "a/.ckpt-doctor",
    ],
)
@pytest.mark.parametrize("role", ["adapter", "model", "head"])
def test_no_path_leaves_the_checkpoint(path: str, role: str) -> None:
    with pytest.raises(SettingsError, match=r"files\[1\].path"):
        layouts([layout(files=[file(role=role, path=path)])], PLACE)
    with pytest.raises(SettingsError, match="marker"):
        layouts([layout(marker=path)], PLACE)


scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6), st.dates())
words = st.sampled_from([*(key.name for key in KEYS), *_LAYOUT_KEYS, *_FILE_KEYS, "shape", "a", "CKD201", "head.pt"])
documents = st.recursive(
    st.one_of(scalars, words),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(words, inner, max_size=5)),
    max_leaves=25,
)


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(st.dictionaries(st.sampled_from([key.name for key in KEYS]), documents, max_size=3))
def test_whatever_stands_there_is_settings_or_our_own_error(document: dict[str, Any]) -> None:
    try:
        values = parse_file(document, Place("x.toml"))
    except SettingsError as error:
        assert str(error).startswith("x.toml: ")
    else:
        assert set(values) == set(document)


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(
    st.fixed_dictionaries(
        {
            "name": st.just("a"),
            "files": st.lists(
                st.fixed_dictionaries(
                    {
                        "role": st.sampled_from(["adapter", "model", "head"]),
                        "path": st.sampled_from([".", "a", "b/c", "h.pt", "m.bin", "d.json", ["x.pt", "y.pt"]]),
                    },
                    optional={
                        "keys": st.one_of(st.lists(words, max_size=2), st.dictionaries(words, documents, max_size=2)),
                        "required": st.booleans(),
                        "nested": st.booleans(),
                    },
                ),
                max_size=3,
            ),
        },
        optional={"marker": words, "folder": words, "sizes": documents, "expect": words},
    )
)
def test_near_misses(document: dict[str, Any]) -> None:
    try:
        found = layouts([document], PLACE)
    except SettingsError as error:
        assert str(error).startswith("x.toml: layouts")
    else:
        assert Policy(layouts=found).expected_format(found[0]) in ("safetensors", "bin", "any")
