"""Tables of pages are written between their markers, with what the figures miss."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.evaluation.test_results import result
from vlm_ft.errors import DataError, RecipeError
from vlm_ft.evaluation.results import Result
from vlm_ft.experiments.quotes import pages_of, renewed, table

STEEL, TILES = "steel_surface_voc", "magnetic_tiles_masks"


def page(kind: str, *names: str, old: str = "old") -> str:
    return f"# Title\n<!-- {kind}{': ' + ', '.join(names) if names else ''} -->\n{old}\n<!-- end of {kind} -->\nmore\n"


def written(kind: str, *names: str, results: tuple[Result, ...] = ()) -> str:
    return renewed(page(kind, *names), results)


def test_the_main_figures_of_all_recipes_are_written_between_the_markers() -> None:
    results = (result(), result(recipe=STEEL, metric="ece"), result(recipe=STEEL, metric="pair_accuracy"))
    assert written("results", results=results) == page("results", old=table([results[0], results[2]]))
    assert renewed(written("results", results=results), results) == written("results", results=results)
    folded = result(command="vlm-ft crossval steel_voc --out folds")
    assert "| kind, macro-F1 (folds) | 90 |" in written("results", results=(folded,))
    row = "| kind, macro-F1 | 90 | **0.500** (0.400 to 0.600) | majority 0.100 |  | 3.0 |"
    assert row in written("results", results=results)


def test_points_of_learning_curves_have_their_own_table() -> None:
    results = (result(), result(recipe=STEEL, examples=50, value=0.45))
    assert "0.450" not in written("results", results=results) + written("results", STEEL, results=results)
    row = f"| {STEEL} | kind, macro-F1 | 90 | 50 | **0.450** (0.400 to 0.600) | majority 0.100 | 3.0 |"
    text = written("learning curves", results=results)
    assert row in text
    assert "0.500" not in text
    assert "No learning curve has been measured yet." in written("learning curves")


def test_a_page_has_all_figures_of_its_recipes_and_only_these() -> None:
    sure = result(recipe=STEEL, metric="ece", rivals={"adapter, before fitting": 0.7})
    answers = [result(recipe=TILES), result(recipe=STEEL)]
    text = written("results", STEEL, TILES, results=(sure, result(recipe="another"), *answers))
    assert table(answers[::-1]) in text
    assert text.index(table(answers[::-1])) < text.index(table([sure]))
    assert "| before fitting 0.700 |" in text
    assert "another" not in text


def test_recipes_without_results_are_named() -> None:
    assert written("results", STEEL, TILES) == page("results", STEEL, TILES, old=f"Not measured: `{STEEL}`, `{TILES}`.")
    text = written("results", STEEL, TILES, results=(result(recipe=STEEL),))
    assert f"\n\nNot measured: `{TILES}`.\n<!-- end" in text


@pytest.mark.parametrize(
    ("figure", "missed"),
    [
        ({"rivals": {"probe": 0.4}, "goal": 0.5}, ""),
        ({"rivals": {"probe": 0.5}}, ""),
        ({"rivals": {"probe": 0.61, "majority": 0.1}, "goal": 0.9}, "goal 0.9, probe 0.610"),
        ({"rivals": {"majority": 0.5}}, "majority 0.500"),
        ({"metric": "ece", "rivals": {"probe": 0.7}, "goal": 0.6}, ""),
        ({"metric": "wrong_of_answered", "rivals": {}, "goal": 0.05}, "goal 0.05"),
    ],
)
def test_misses_are_listed_by_what_is_better_for_the_metric(figure: dict[str, object], missed: str) -> None:
    text = written("results", STEEL, results=(result(recipe=STEEL, **figure),))
    assert ("No figure is worse than" in text) == (not missed)
    assert (f": 0.500 ({missed})\n" in text) == bool(missed)


def test_recipes_are_described_with_the_memory_in_their_comment() -> None:
    text = written("recipes", STEEL)
    assert f"| [{STEEL}](../{STEEL}.yaml) | kind | [NEU-DET](https://github.com/" in text
    assert "| Qwen3-VL-4B-Instruct: 11 GiB, 5 in nf4 |" in text
    assert f"`vlm-ft train {STEEL} --set base=Qwen/Qwen3-VL-4B-Instruct --set training.minutes=null " in text


def test_a_benchmark_without_figures_says_so() -> None:
    assert written("benchmark", "none") == page("benchmark", "none", old="Not measured yet.")


def test_pages_without_tables_are_left_alone_but_refused_when_named(tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    marked, plain = tmp_path / "pages" / "a.md", tmp_path / "b.md"
    marked.write_text(page("results"))
    plain.write_text("# Title")
    assert pages_of(tmp_path) == [marked]
    with pytest.raises(DataError, match=r"b\.md: has no table to write"):
        pages_of(plain)
    marked.write_bytes(b"<!-- results -->\xe9<!-- end of results -->")
    with pytest.raises(DataError, match="not UTF-8: byte 0xe9 at offset 16; save it as UTF-8"):
        pages_of(tmp_path)
    with pytest.raises(RecipeError, match="not a shipped recipe"):
        written("results", "steel")
