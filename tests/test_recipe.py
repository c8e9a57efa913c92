"""A recipe is strict at every level, reports errors in one line, and can be overridden."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from pydantic import BaseModel

from vlm_ft.data.cases import load
from vlm_ft.errors import FormError, RecipeError
from vlm_ft.recipe import Recipe, find_rate_card, find_recipe, load_recipe, shipped, with_absolute_paths

PLAIN: dict[str, Any] = {
    "name": "trial",
    "task": "product_defects",
    "data": [{"path": "drawn"}],
    "splits": {},
    "pixels": {"minimum": 1, "maximum": 2},
    "adapter": {},
    "training": {},
}


def keys(model: type[BaseModel], place: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every key of a recipe, from the top: ("training", "epochs"); the first entry of a list is "0"."""
    for name, field in model.model_fields.items():
        yield (*place, name)
        kinds = [field.annotation, *get_args(field.annotation)]
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                listed = ("0",) if Ellipsis in kinds else ()
                yield from keys(kind, (*place, name, *listed))


def written(folder: Path, content: Any) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return path


@pytest.mark.parametrize("key", list(keys(Recipe)), ids=".".join)
def test_a_misspelt_key_is_reported_with_the_right_one(key: tuple[str, ...], tmp_path: Path) -> None:
    misspelt = ".".join(key) + "x"
    with pytest.raises(RecipeError) as error:
        load_recipe(written(tmp_path, PLAIN), [f"{misspelt}=1"])
    assert f"unknown key {misspelt!r}; did you mean {key[-1]!r}?" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("setting", "place", "value"),
    [
        ("base=compact", ["base"], "compact"),
        ("training.epochs=3", ["training", "epochs"], 3.0),
        ("training.learning_rate=1.0e-3", ["training", "learning_rate"], 1e-3),
        ("training.minutes=null", ["training", "minutes"], None),
        ("data.0.limit=7", ["data", 0, "limit"], 7),
        ("data.0.path=/a=b", ["data", 0, "path"], "/a=b"),
        ("adapter.rates={vision: 1.0e-4}", ["adapter", "rates"], {"vision": 1e-4}),
        ("labels.kind=[pit, crack]", ["labels", "kind"], ["pit", "crack"]),
        ("labels={findings.kind: [pit]}", ["labels", "findings.kind"], ["pit"]),
        ("splits.source.val=test", ["splits", "source", "val"], "test"),
        ('data.0.columns={kind: "a"}', ["data", 0, "columns", "kind"], "a"),
    ],
)
def test_a_setting_overrides_at_its_depth(setting: str, place: list[Any], value: Any, tmp_path: Path) -> None:
    found: Any = load_recipe(written(tmp_path, PLAIN), [setting]).model_dump(mode="json")
    for part in place:
        found = found[part]
    assert found == value


def test_a_later_setting_wins_and_an_empty_section_is_filled(tmp_path: Path) -> None:
    path = written(tmp_path, {**PLAIN, "training": None, "splits": {}, "augment": "light"})
    recipe = load_recipe(path, ["training.epochs=3", "training.epochs=4", "adapter.language=dora"])
    assert recipe.training.epochs == 4
    assert recipe.adapter.asked == {"language": "dora"}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("training.epochs", "no '='"),
        ("training.epochs=[", "is not a YAML value"),
        ("data.4.limit=3", "'4' is not a position in a list of 1"),
        ("data.².limit=3", "'²' is not a position"),
        ("data.first.limit=3", "'first' is not a position"),
        ("data.0.limit.most=3", "5 is a value without keys"),
        ("name.first=3", "'trial' is a value without keys"),
        ("training.epochs=many", "training.epochs: 'many'"),
        ("training.epochs=-1", "training.epochs: '-1'"),
        ("adapter.language=qlora", "adapter.language: 'qlora'"),
        ("adapter.scope=[language]", "unknown key 'adapter.scope'"),
        ("splits.folds=3", "fold 5 does not exist; folds are 0..2"),
        ("pixels.minimum=3", "minimum 3 exceeds maximum 2"),
        ("labels.kind=[yes, no]", "labels.kind.0"),
        ("name=a/b", "name: 'a/b'"),
        ("data=[]", "data"),
        ("data.0.group=[", "is not a YAML value"),
        ("data.0.group='('", "the regex does not compile"),
    ],
)
def test_an_invalid_setting_is_reported_in_one_line(setting: str, message: str, tmp_path: Path) -> None:
    path = written(tmp_path, {**PLAIN, "splits": {"fold": 5}, "data": [{"path": "drawn", "limit": 5}]})
    with pytest.raises(RecipeError) as error:
        load_recipe(path, [setting])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_environment_variables_are_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "name: trial\ntask: product_defects\ndata: [{path: '${VLM_FT_TRIAL:-here}/set'}]"
    monkeypatch.delenv("VLM_FT_TRIAL", raising=False)
    assert load_recipe(written(tmp_path, text)).data[0].path == Path("here/set")
    monkeypatch.setenv("VLM_FT_TRIAL", "/there")
    assert load_recipe(written(tmp_path, text)).data[0].path == Path("/there/set")
    monkeypatch.delenv("VLM_FT_TRIAL")
    with pytest.raises(RecipeError, match="environment variable VLM_FT_TRIAL is not set"):
        load_recipe(written(tmp_path, text.replace(":-here", "")))
    assert load_recipe(written(tmp_path, f"  # base: ${{VLM_FT_TRIAL}}\n{text}")).data[0].path == Path("here/set")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: trial\ntask: [", "recipe.yaml:2: not valid YAML"),
        ("- name", "a recipe is a mapping of keys, not list"),
        ("", "a recipe is a mapping of keys, not NoneType"),
        ("name: trial", "key 'task' is missing"),
        ("1: trial", "recipe.yaml: "),
        ("name: trial\ntask: product_defects\ndata: [{}]", "key 'data.0.path' is missing"),
        ("name: \x00", "not valid YAML"),
        ("name: 2020-99-99", "not valid YAML"),
        ("name: !!float x", "not valid YAML"),
        ("name: !!timestamp x", "not valid YAML"),
        ("{a: " * 2000, "nested too deeply"),
        ("name: x\ntask: y\nname: z\n", ":3: not valid YAML: key 'name' is repeated"),
    ],
)
def test_an_invalid_recipe_is_reported_in_one_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as error:
        load_recipe(written(tmp_path, text))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_merged_key_may_be_overridden(tmp_path: Path) -> None:
    text = "x: &x {seed: 1}\ny: &y {<<: *x, seed: 2}\nsplits: {<<: *y, fold: 0}\n" + yaml.safe_dump(
        {key: value for key, value in PLAIN.items() if key != "splits"}
    )
    with pytest.raises(RecipeError, match="unknown key 'x'"):  # no key was repeated
        load_recipe(written(tmp_path, text))


@pytest.mark.parametrize("setting", ["training.epochs=.inf", "training.minutes=.inf", "splits.train=1e308"])
def test_infinite_numbers_are_refused(setting: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=setting.partition("=")[0]):
        load_recipe(written(tmp_path, PLAIN), [setting])


def test_a_name_that_the_system_refuses_is_reported() -> None:
    for name in ("x" * 5000, "a\0b"):
        with pytest.raises(RecipeError, match="neither a file nor a shipped name"):
            find_recipe(name)
        with pytest.raises(RecipeError, match="neither a file nor a shipped name"):
            find_rate_card(name)


def test_unreadable_files_are_reported(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such file"):
        load_recipe(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9")
    with pytest.raises(RecipeError, match=r"cannot be read as UTF-8 text .*; save it as UTF-8"):
        load_recipe(tmp_path / "latin.yaml")
    with pytest.raises(RecipeError, match="did you mean 'quickstart_surfaces'"):
        find_recipe("quickstart_surface")


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_recipe_survives_the_round_trip(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(find_recipe(name))
    assert recipe.name == name
    kept = written(tmp_path, recipe.model_dump(mode="json"))
    assert load_recipe(kept) == recipe


def test_a_recipe_s_rate_card_is_found_by_name_or_path(tmp_path: Path) -> None:
    own = tmp_path / "own.csv"
    own.write_bytes(find_rate_card("example_eur").read_bytes())
    assert find_rate_card(str(own)) == own
    with pytest.raises(RecipeError, match=r"rate_card example_usd: neither a file .*; did you mean 'example_eur'"):
        find_rate_card("example_usd")
    with pytest.raises(RecipeError, match=r"rate_card nowhere\.csv: neither a file nor a shipped name"):
        find_rate_card("nowhere.csv")


def test_a_rate_card_prices_the_answers_of_a_form_with_findings(recipe_of: Callable[..., Recipe]) -> None:
    form = load(recipe_of("qwen3_vl", fields=["findings"], rate_card="example_eur")).form
    assert [(entry.kind, entry.name) for entry in form.derivations] == [("estimate", "example_eur")]
    with pytest.raises(FormError, match="the form lists no findings by kind"):
        load(recipe_of("qwen3_vl", fields=["passed"], rate_card="example_eur"))
    assert load(recipe_of("qwen3_vl", fields=["findings"])).form.derivations == ()


@pytest.mark.parametrize(
    ("slip", "message"),
    [
        ({"labels": {"severity": [""]}}, "not a printable word"),
        ({"labels": {"severity": ["\x1b[31mred"]}}, "not a printable word"),
        ({"fields": ["defect", "defect"]}, "'defect' is listed twice; keep one"),
        ({"data": "drawn"}, "not a list; write"),
        ({"training": 3}, "not a section; write its keys"),
        ({"data": [{"path": ""}]}, "the path is empty"),
        ({"data": [{"path": None}]}, "not a path"),
        ({"data": [{"path": "drawn", "text": {"message": None}}]}, "not text; put it in quotes"),
    ],
    ids=str,
)
def test_a_slip_gives_one_line_without_python_terms(slip: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe(written(tmp_path, {**PLAIN, **slip}))
    assert str(caught.value).isprintable()


def test_every_path_of_a_recipe_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    there = tmp_path / "there"
    there.mkdir()
    paths = {
        "base": "there",
        "policy": {"answers": 4, "reward_model": "there"},
        "splits": {"like": "there"},
        "data": [{"path": "there"}],
    }
    others = {"name": "there", "labels": {"base": ["there"]}}
    assert with_absolute_paths({**paths, **others}) == {
        "base": str(there),
        "policy": {"answers": 4, "reward_model": str(there)},
        "splits": {"like": str(there)},
        "data": [{"path": str(there)}],
        **others,
    }
