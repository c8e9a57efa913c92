"""A user's mistake gives one line and exit code 2; help is instant."""

from __future__ import annotations

import os
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

import vlm_ft
from vlm_ft.adapters import ADAPTER
from vlm_ft.bases.families import FAMILIES
from vlm_ft.cli import app, main
from vlm_ft.recipe import Recipe, load_recipe, shipped
from vlm_ft.runs import RECIPE

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """``cli("train", recipe)``: exit code, stdout, stderr of the command as its entry point runs it."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["vlm-ft", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        out, err = capfd.readouterr()
        return int(left.value.code or 0), out, err

    return run


@pytest.fixture
def recipe(recipe_of: Callable[..., Recipe], tmp_path: Path) -> Path:
    """The small recipe as a file."""
    file = tmp_path / "trial.yaml"
    file.write_text(yaml.safe_dump(recipe_of("qwen3_vl").model_dump(mode="json")), encoding="utf-8")
    return file


MISTAKES: dict[str, tuple[list[str], str]] = {
    "wrong recipe key": (["train", "{wrong}"], "unknown key 'basee'; did you mean 'base'"),
    "missing recipe": (["train", "{tmp}/none.yaml"], "neither a file nor a shipped name"),
    "data instead of a recipe": (["train", "{images}"], "is a folder; write a recipe for its data: vlm-ft init"),
    "misspelt shipped recipe": (["train", "quickstart_surface"], "did you mean 'quickstart_surfaces' or '"),
    "not valid YAML": (["train", "{spoilt}"], "not valid YAML"),
    "missing data": (["train", "{recipe}", "--out", "{tmp}/out", "--set", "data.0.path={tmp}/none"], "no such file"),
    "empty data": (["data", "read", "{recipe}", "--set", "data.0.path={empty}"], "the folder is empty"),
    "unknown task": (["data", "read", "{recipe}", "--set", "task=product_defect"], "did you mean 'product_defects'"),
    "unknown task of the tour": (["tour", "car_damages", "--out", "{tmp}/out"], "did you mean 'car_damage'"),
    "missing task file": (["data", "read", "{recipe}", "--task", "{tmp}/none.py"], "no such file"),
    "unknown --set key": (["train", "{recipe}", "--set", "training.epoch=3"], "did you mean 'epochs'"),
    "unreadable --set": (["train", "{recipe}", "--set", "training.epochs"], "no '='"),
    "unwritable out": (["train", "{recipe}", "--out", "{recipe}/out"], "cannot be written"),
    "out is a file": (["train", "{recipe}", "--out", "{recipe}"], "cannot be written"),
    "nothing to resume": (["train", "{recipe}", "--out", "{tmp}/out", "--resume"], "holds no run to resume"),
    "assembled over a base": (
        ["base", "assemble", "--vision", "resnet10t", "--language", "none", "--out", "{empty}"],
        "already exists",
    ),
    "missing base": (["train", "{recipe}", "--out", "{tmp}/out", "--set", "base=./none"], "no such folder"),
    "base out of reach": (["train", "{recipe}", "--out", "{tmp}/out", "--set", "base=no/body"], "cannot be loaded"),
    "a table without --text": (
        ["score", "{recipe}", "--adapter", "{tmp}/none", "--out", "{tmp}/a.csv"],
        "not a folder; give the folder of photos; for a table of texts, add --text",
    ),
    "texts as cases": (
        ["score", "{tmp}", "--adapter", "{tmp}", "--out", "{tmp}/a.csv", "--text", "{{clause}}", "--case-by", "folder"],
        "--case-by: applies to photos, and cannot be combined with --text; leave it out",
    ),
    "unknown adapter": (["score", "{images}", "--adapter", "{tmp}/none", "--out", "{tmp}/a.csv"], "no such folder"),
    "no adapter": (["demo", "--adapter", "{empty}"], "has no card.json"),
    "other base": (
        ["score", "{images}", "--adapter", "{run}", "--out", "{tmp}/a.csv", "--base", "{other}"],
        "its base is ",
    ),
    "no name for the recipe": (["train-next", "{empty}", "{tmp}", "--out", "."], "'.': is not a file or folder name"),
    "no run": (["evaluate", "{empty}"], "not a vlm-ft train run"),
    "taken folder": (["data", "synth", "product_defects", "{images}"], "is not empty"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gives_one_line_and_exit_code_2(
    mistake: str,
    cli: Run,
    recipe: Path,
    tmp_path: Path,
    drawings: Path,
    tiny_folder: Callable[[str], Path],
    run_of: Callable[..., Path],
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "wrong.yaml").write_text("name: a\ntask: b\nbasee: 3\ndata: [{path: c}]\n")
    (tmp_path / "spoilt.yaml").write_text("name: [")
    places = {
        "tmp": tmp_path,
        "recipe": recipe,
        "empty": tmp_path / "empty",
        "wrong": tmp_path / "wrong.yaml",
        "spoilt": tmp_path / "spoilt.yaml",
        "images": drawings / "JPEGImages",
        "run": run_of("qwen3_vl") / ADAPTER if mistake == "other base" else "",
        "other": tiny_folder("llava_siglip_qwen2") if mistake == "other base" else "",
    }
    arguments, message = MISTAKES[mistake]
    code, out, err = cli(*(argument.format(**places) for argument in arguments))
    assert err.startswith("error: ")
    assert err.count("\n") == 1, err
    assert message in err
    assert out == ""
    assert code == 2
    assert not (tmp_path / "out").exists()


SCORE = ["score", "photos", "--adapter", "run", "--out", "out.csv"]


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ([*SCORE, "--model", "mine"], "--model: needs --engine"),
        (["evaluate", "run", "--goal", "kind.macro_f1=1"], "--goal: needs --results"),
        (["serve", "--adapter", "run", "--port", "99999"], "--port"),
        (["demo", "--adapter", "run", "--port", "99999"], "--port"),
    ],
)
def test_an_option_that_has_no_effect_or_is_out_of_range_is_refused(command: list[str], says: str, cli: Run) -> None:
    code, _, err = cli(*command)
    assert code == 2
    assert "Invalid value" in err
    assert says in err


def test_train_ends_with_the_next_commands_and_its_adapter_scores_a_folder(
    cli: Run, recipe: Path, drawings: Path, tmp_path: Path
) -> None:
    run, scores = tmp_path / "my run [2]", tmp_path / "scores.csv"
    code, _, err = cli("train", recipe, "--out", run, "--set", "name=other")
    assert code == 0
    assert f"adapter {run / 'adapter'}: 2 steps" in err
    assert "Traceback" not in err
    assert err.splitlines()[-2:] == [f"  vlm-ft evaluate '{run}'", f"  vlm-ft demo --adapter '{run}'"]
    code, _, _ = cli("score", drawings / "JPEGImages", "--adapter", run, "--out", scores)
    assert code == 0
    assert len(scores.read_text().splitlines()) == 21


def test_data_read_shows_the_form(cli: Run, recipe: Path) -> None:
    code, _, err = cli("data", "read", recipe)
    assert code == 0
    assert "passed: true | false" in err


def test_train_next_keeps_the_inputs_of_a_run(cli: Run, tmp_path: Path) -> None:
    (tmp_path / "next").mkdir()
    (tmp_path / "next" / RECIPE).touch()
    code, _, err = cli("train-next", tmp_path / "reviews", tmp_path / "adapter", "--out", tmp_path / "next")
    assert code == 2
    assert f"{tmp_path}/next: already holds a run; continue it with --resume" in err
    assert [file.name for file in tmp_path.iterdir()] == ["next"]


def test_a_cluster_needs_ray(cli: Run, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as if it were not installed
    code, _, err = cli("train", recipe, "--out", tmp_path / "run", "--cluster", "--workers", 2)
    assert (code, err) == (2, "error: --cluster: Ray is not installed; pip install 'vlm-ft[ray]'\n")
    assert not (tmp_path / "run").exists()


def test_recipes_describes_each_shipped_recipe_in_one_line(cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLM_FT_DATA", "/nowhere")
    code, out, _ = cli("recipes")
    assert code == 0
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in out.splitlines()}
    assert list(lines) == shipped()
    assert lines["steel_surface_voc"] == "product_defects photos kind NEU-DET"
    assert lines["medical_questions_json"] == "medical_conditions texts decision PubMedQA"


@pytest.mark.parametrize("command", [["data", "read"], ["crossval", "--out", "x"], ["learning-curve", "--out", "x"]])
def test_the_error_for_missing_data_names_source_variable_and_path(
    command: list[str], cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VLM_FT_DATA", "sets")
    code, _, err = cli(*command, "objects_voc")
    assert code == 2
    assert err.startswith(f"error: {tmp_path}/sets/object_identification/raccoon_voc: no such file or folder; ")
    assert "obtain Raccoon (licence: MIT) from https://github.com/datitran/raccoon_dataset" in err
    assert err.endswith("then set VLM_FT_DATA or data.0.path\n")


def test_the_version_is_printed(cli: Run) -> None:
    code, out, _ = cli("--version")
    assert code == 0
    assert out == f"vlm-ft {metadata.version('vlm-ft')}\n"


def test_base_get_prints_the_folder(cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLM_FT_HOME", str(tmp_path))
    folder = tmp_path / "bases" / "compact"
    folder.mkdir(parents=True)
    (folder / "config.json").touch()
    assert cli("base", "get", "compact")[:2] == (0, f"{folder}\n")


def test_the_families_are_listed_with_what_they_support(cli: Run) -> None:
    code, out, _ = cli("base", "families")
    assert code == 0
    rows = {line.split()[1]: line.split("│")[2:-1] for line in out.splitlines() if line.startswith("│")}
    assert rows.keys() == {*FAMILIES, "text"}
    assert rows["qwen3_vl"][0].strip() == "yes"
    assert rows["paligemma"][0].strip() == "no"
    assert [cell.strip() for cell in rows["qwen3_5"][:2]] == ["no", "no"]


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["data", "--help"]], ids=" ".join)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from vlm_ft.cli import app; sys.argv[1:] = " + repr(arguments) + "\n"
        "try: app()\n"
        "except SystemExit as left: assert not left.code\n"
        "heavy = {'torch', 'transformers', 'gradio', 'pandas', 'numpy', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage: " in done.stdout


@pytest.mark.parametrize("group", [[], ["data"], ["base"]], ids=" ".join)
def test_the_list_of_commands_fits_a_terminal(group: list[str]) -> None:
    shown = CliRunner().invoke(app, [*group, "--help"], terminal_width=78).output  # two of 80 columns stay free
    assert "Commands:" in shown
    assert "..." not in shown.replace("[ARGS]...", "")


def test_help_is_fast() -> None:
    """It takes at most 0.4 s of processor time, so that other load on the machine does not count."""
    command = [sys.executable, "-c", "from vlm_ft.cli import main; main()", "--help"]
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    assert statistics.median(spent) < 0.4


COSTS = (
    "Car_Type,Part,Damage_Type,Severity,Labor_Hours,Labor_Rate_Per_Hour,Used_Part_Cost,New_Part_Cost\n"
    "van,door,dent,minor,1,2,3,4\n"
)


@pytest.mark.parametrize(
    "command",
    [
        ["data", "export", "{recipe}", "{file}/x.json"],
        ["data", "export", "{recipe}", ""],
        ["data", "preview", "{recipe}", "--out", "{file}/x.png"],
        ["data", "preview", "{recipe}", "--out", "{tmp}/x.mp4"],
        ["data", "check", "{recipe}", "--no-base", "--out", "{file}"],
        ["data", "synth", "product_defects", "{file}/x", "--count", "1"],
        ["data", "rate-card", "{tmp}/costs.csv", "{tmp}/costs.csv", "--car", "van"],
        ["data", "rate-card", "{tmp}/costs.csv", "{tmp}", "--car", "van"],
        ["data", "rate-card", "{tmp}/none.csv", "{tmp}/card.csv", "--car", "van"],
        ["data", "rate-card", "{tmp}", "{tmp}/card.csv", "--car", "van"],
        ["data", "deidentify", "{file}", "/proc/none/x"],
        ["data", "documents", "{file}", ""],
        ["data", "read", "{long}"],
        ["data", "export", "{recipe}", "{own}"],
    ],
    ids=lambda command: "-".join(command[1:4:2]),
)
def test_an_unreadable_or_unwritable_path_gives_one_line(
    command: list[str], cli: Run, recipe: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no manual")
    (tmp_path / "costs.csv").write_text(COSTS)
    own = next((Path(load_recipe(recipe).data[0].path) / "Annotations").iterdir())
    kept = own.read_bytes()
    places = {"recipe": recipe, "file": tmp_path / "file", "tmp": tmp_path, "long": "x" * 5000, "own": own}
    code, _, err = cli(*(word.format(**places) for word in command))
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert len(err) < 1500
    assert (tmp_path / "costs.csv").read_text() == COSTS
    assert own.read_bytes() == kept
    assert not list(tmp_path.glob("*.part"))


def test_an_export_reports_what_reading_set_aside(cli: Run, recipe: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos" / "dent"
    photos.mkdir(parents=True)
    Image.new("RGB", (20, 10)).save(photos / "a.png")
    (photos / "broken.png").write_bytes(b"none")
    settings = ["--set", f"data=[{{path: {tmp_path / 'photos'}}}]"]
    code, _, err = cli("data", "export", recipe, tmp_path / "tasks.json", *settings)
    assert code == 0
    assert "broken.png: not a readable image" in err


def test_a_worker_stops_at_sigint_even_if_it_was_started_in_the_background(tmp_path: Path) -> None:
    """A script's background commands ignore SIGINT, and so does what they start."""
    synth = ["data", "synth", "product_defects", "set", "--count", "9999999"]
    endless = [sys.executable, "-m", "vlm_ft.cli.worker", *synth]
    ignoring = f"import os, signal; signal.signal(signal.SIGINT, signal.SIG_IGN); os.execv({endless[0]!r}, {endless!r})"
    source = {**os.environ, "PYTHONPATH": str(Path(vlm_ft.__file__).parents[1])}
    worker = subprocess.Popen([sys.executable, "-c", ignoring], stdin=subprocess.PIPE, cwd=tmp_path, env=source)
    while not list(tmp_path.iterdir()):
        assert worker.poll() is None
        time.sleep(0.05)
    worker.send_signal(signal.SIGINT)
    # Python itself ends by the signal if that interrupts an exec of source text, such as the making of a dataclass
    assert worker.wait(30) in (130, -signal.SIGINT)
