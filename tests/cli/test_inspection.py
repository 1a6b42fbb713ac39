"""Commands that only look: ls, config, completion, --dry-run and --json; and the generated reference."""

import argparse
import ast
import json
import shlex
import subprocess
from pathlib import Path

import pytest

import usvs
from tests.support.commands import run_command
from usvs.cli import build_parser
from usvs.cli.reference import iter_commands, reference_text
from usvs.cli.settings_commands import SETTINGS
from usvs.config import Settings, load_settings, setting_names
from usvs.errors import ConfigError
from usvs.store.indexing import index_archive
from usvs.store.listing import list_store
from usvs.store.prepare import prepare_store
from usvs.tasks.pretraining.settings import pretrain_profile

PACKAGE = Path(usvs.__file__).parent
PROFILES = ("paper", "quick", "small")
SMALL = ["--profile", "quick", "--set=model.frame_pixels=32", "--set=optimiser.batch_clips=4"]


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Return exit code, standard output and standard error of a command."""
    capsys.readouterr()
    code = run_command(*arguments)
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def state(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


@pytest.mark.parametrize("command", SETTINGS)
@pytest.mark.parametrize("profile", PROFILES)
def test_config_prints_what_config_reads(command, profile, tmp_path, capsys):
    """Whatever the profile that the file is laid over: it holds all settings."""
    settings = SETTINGS[command](profile)
    for form, options in (("toml", []), ("json", ["--json"])):
        code, text, _ = run(capsys, "config", "--for", command, "--profile", profile, *options)
        (tmp_path / f"settings.{form}").write_text(text)
        assert code == 0
        for other in PROFILES:
            assert load_settings(SETTINGS[command](other), tmp_path / f"settings.{form}") == settings


def test_config_prints_changed_settings_with_their_meaning(capsys):
    _, text, _ = run(capsys, "config", "--profile", "quick", "--set", "optimiser.epochs=7")
    lines = text.splitlines()
    assert lines[lines.index("epochs = 7") - 1] == "# Passes over the training clips. (an integer, at least 1)"
    assert lines[lines.index("# micro_batch_clips = none") - 1].endswith("(an integer or none, at least 1)")


def test_every_setting_has_a_meaning():
    for make in SETTINGS.values():
        for name, group, last in setting_names(make("paper")):
            assert type(group).model_fields[last].description, name
    kinds = [kind for kind in _settings_classes(Settings) if kind.__module__.startswith("usvs.")]
    assert len(kinds) > 15
    assert not [(kind, name) for kind in kinds for name, field in kind.model_fields.items() if not field.description]


def _settings_classes(kind: type[Settings]) -> list[type[Settings]]:
    return [each for child in kind.__subclasses__() for each in (child, *_settings_classes(child))]


@pytest.mark.parametrize(
    ("unknown", "nearest"),
    [
        ("lr", "optimiser.learning_rate"),
        ("optimiser.lr", "optimiser.learning_rate"),
        ("learning-rate", "optimiser.learning_rate"),
        ("wd", "optimiser.weight_decay"),
        ("batch_size", "optimiser.batch_clips"),
        ("optimizer.epochs", "optimiser"),
        ("epoch", "optimiser.epochs"),
        ("seed", "run.seed"),
        ("temprature", "objective.temperature"),
        ("model.vidoe.layers", "model.video"),
        ("dropout", "model.order_dropout"),
    ],
)
def test_an_unknown_setting_names_its_nearest(unknown, nearest):
    with pytest.raises(ConfigError, match=f"unknown setting '{unknown}.*did you mean '{nearest}'"):
        load_settings(pretrain_profile("quick"), None, [f"{unknown}=1"])


@pytest.mark.parametrize("value", ["true", "NaN", "Infinity", "1e400", "-1e-3", "null", '"many"', "[1]"])
def test_a_rate_is_a_finite_positive_number(value):
    with pytest.raises(ConfigError, match=r"setting 'optimiser\.learning_rate': expected .*, got "):
        load_settings(pretrain_profile("quick"), None, [f"optimiser.learning_rate={value}"])


def test_an_integer_has_64_bits_and_is_no_truth_value():
    for value in ("true", str(2**63), "1" * 5000):
        with pytest.raises(ConfigError, match=r"setting 'optimiser\.epochs': "):
            load_settings(pretrain_profile("quick"), None, [f"optimiser.epochs={value}"])


def test_the_reference_is_current():
    stored = (PACKAGE.parent / "docs" / "reference.md").read_text(encoding="utf-8")
    assert stored == reference_text(), "run: python -m usvs.cli.reference > docs/reference.md"


def test_ls_translates_keys_and_paths(tiny_store, capsys):
    listed = list_store(tiny_store)
    assert len(listed.patients) == 4 and {patient.name for patient in listed.patients} == {
        f"patient_00{number}" for number in range(1, 5)
    }
    first = listed.patients[0]
    scan = first.scans[0]
    assert scan.path == "patient_001/scan_1.mp4" and scan.state == "prepared" and scan.has_gaze
    assert "plane" in scan.labels and first.reason == "by the top-level folder"
    for name in (scan.scan_key, first.patient_key, scan.path, "patient_001/", str(listed.archive / scan.path)):
        assert [patient.scans[0].scan_key for patient in list_store(tiny_store, [name]).patients] == [scan.scan_key]
    code, text, _ = run(capsys, "ls", tiny_store, scan.scan_key)
    assert code == 0 and scan.path in text and str(first.patient_key) in text and text.count("patient_0") == 2
    code, text, errors = run(capsys, "ls", tiny_store, "--json")
    assert code == 0 and errors == ""
    assert json.loads(text)["patients"][0]["scans"][0]["scan_key"] == scan.scan_key
    code, _, errors = run(capsys, "ls", tiny_store, "patient_9")
    assert code == 2 and "'patient_9': expected a key of store" in errors


def test_ls_says_why_scans_are_one_patient_and_what_is_wrong_with_a_file(make_video, tmp_path, capsys):
    archive = make_video("p1/a.mp4", count=60).parents[1]
    make_video("p2/b.mp4", count=60)
    make_video("c.mp4", count=60)
    (archive / "p3").mkdir()
    (archive / "p3" / "broken.mp4").write_bytes(b"not a video")
    (archive / "p1" / "a.gaze.csv").write_text("time,x,y\n0,0.5,0.5\n")
    (archive / "manifest.csv").write_text("scan,patient\np2/b.mp4,Anna Muster\n")
    index_archive(archive, tmp_path / "store", workers=1)
    listed = {patient.name: patient for patient in list_store(tmp_path / "store").patients}
    assert listed["Anna Muster"].reason == "named in manifest.csv or labels.csv"
    assert listed["p1"].scans[0].state == "not prepared"
    assert [file for file, _ in listed["p1"].scans[0].notes] == ["p1/a.gaze.csv"]
    assert listed[None].scans[0].path == "c.mp4" and listed[None].patient_key is None
    assert listed["p3"].scans[0].state == "skipped" and listed["p3"].scans[0].reason
    archive.rename(tmp_path / "moved")  # names that only manifest.csv has are not known then
    names = {patient.name for patient in list_store(tmp_path / "store").patients}
    assert names == {"p1", "p3", None}


def test_dry_runs_write_nothing(tiny_archive, tiny_store, tmp_path, capsys):
    """Of index and prepare; archive, store and the folder of the new store stay as they are."""
    before = state(tiny_archive), state(tiny_store)
    code, text, _ = run(capsys, "index", tiny_archive, tmp_path / "new", "--dry-run", "--json")
    found = json.loads(text)
    assert code == 0 and found["scans"] == 4 and found["refused"] == [] and found["seconds"] > 0
    code, text, _ = run(capsys, "prepare", tiny_store, "--profile", "quick", "--dry-run")
    assert code == 0 and "0 of 4 scans to prepare (0 frames), 4 unchanged, 0 would fail" in text
    code, text, _ = run(capsys, "prepare", tiny_store, "--set", "frame_pixels=40", "--dry-run", "--json")
    found = json.loads(text)
    assert (found["to_prepare"], found["frames"]) == (4, 768) and 300 < found["disk_bytes"] / 768 < 20_000
    assert before == (state(tiny_archive), state(tiny_store)) and not (tmp_path / "new").exists()


def test_dry_runs_say_what_would_be_refused(make_video, tmp_path, capsys):
    archive = make_video("p/a.mp4", count=60).parents[1]
    store = tmp_path / "store"
    code, text, errors = run(capsys, "index", archive, archive / "inside", "--dry-run")
    assert code == 2 and "would be refused: store" in text and "is inside the archive" in errors
    assert not (archive / "inside").exists()
    index_archive(archive, store, workers=1)
    (archive / "p" / "a.mp4").write_bytes((archive / "p" / "a.mp4").read_bytes() + b"more")
    code, text, _ = run(capsys, "prepare", store, "--dry-run", "--json")
    found = json.loads(text)
    assert code == 3 and found["failing"] == 1
    assert "p/a.mp4: the video has changed since 'usvs index'" in found["refused"][0]["reason"]


@pytest.mark.slow
def test_the_size_that_a_dry_run_of_prepare_says_is_that_of_the_scans(tiny_archive, tmp_path, capsys):
    index_archive(tiny_archive, tmp_path / "store", workers=1)
    _, text, _ = run(capsys, "prepare", tmp_path / "store", "--profile", "quick", "--dry-run", "--json")
    expected = json.loads(text)["disk_bytes"]
    prepare_store(tmp_path / "store", profile="quick", workers=1)
    written = sum(path.stat().st_size for path in (tmp_path / "store" / "prepared").rglob("*") if path.is_file())
    assert 0.8 < expected / written < 1.25


@pytest.mark.slow
def test_dry_runs_of_training_count_as_the_run_does_and_write_nothing(tiny_store, tmp_path, capsys):
    before = state(tiny_store)
    options = [*SMALL, "--set=validation_fraction=0.5", "--set=optimiser.epochs=2"]
    code, text, errors = run(capsys, "pretrain", tiny_store, tmp_path / "run", *options, "--dry-run", "--json")
    found = json.loads(text)
    assert code == 0 and found["training_patients"] == 2 and found["steps"] == 12 and found["refused"] == []
    assert all(found[name] > 0 for name in ("seconds", "memory_bytes", "disk_bytes", "parameters", "training_clips"))
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine.txt").write_text("")
    code, text, errors = run(capsys, "pretrain", tiny_store, tmp_path / "used", *options, "--dry-run")
    assert code == 2 and "would be refused: run folder" in text and "is not empty" in errors
    assert "These settings give 12 steps, too few" in text and "--set optimiser.epochs=75" in text
    options = ["--profile", "quick", "--set=model.frame_pixels=32", "--set=folds=2", "--set=optimiser.epochs=3"]
    code, text, _ = run(
        capsys, "finetune", "planes", tiny_store, tmp_path / "ft", *options, "--init", "random", "--dry-run", "--json"
    )
    found = json.loads(text)
    assert code == 0 and (found["inits"], found["folds"]) == (1, 2) and found["updates"] == [3, 3]
    assert before == state(tiny_store) and {path.name for path in tmp_path.iterdir()} == {"used"}


@pytest.mark.slow
def test_a_run_with_too_few_steps_says_so_before_it_starts_and_shows_its_loss(tiny_store, tmp_path, capsys):
    options = [*SMALL, "--set=optimiser.epochs=1", "--set=model.video.stem_width=8", "--set=model.speech.stem_width=8"]
    code, text, errors = run(capsys, "pretrain", tiny_store, tmp_path / "run", *options, "--json")
    assert code == 0 and json.loads(text)["steps"] > 0 and json.loads(text)["verdict"]["text"]
    assert errors.index("too few: on the phantom the loss leaves chance after 300 to 450") < errors.index("step ")
    code, text, errors = run(capsys, "pretrain", tiny_store, tmp_path / "b", *options, "--objective", "video")
    assert code == 0 and text == "" and "These settings give" not in errors  # no contrast of speech and pictures


def test_the_script_of_completion_knows_commands_and_options(capsys, tmp_path):
    pytest.importorskip("shtab")
    code, text, _ = run(capsys, "completion", "bash")
    assert code == 0
    (tmp_path / "usvs.bash").write_text(text)
    ask = (
        f"source {shlex.quote(str(tmp_path / 'usvs.bash'))}; COMP_WORDS=(usvs TYPED);"
        ' COMP_CWORD=$((${#COMP_WORDS[@]}-1)); _shtab_usvs; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    for typed, expected in (("pre", {"prepare", "pretrain", "predict"}), ("pretrain --resu", {"--resume"})):
        script = ask.replace("TYPED", typed)
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
        assert set(done.stdout.split()) == expected, done.stderr


def test_completion_without_its_package_names_it(capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "shtab", None)
    code, _, errors = run(capsys, "completion", "bash")
    assert code == 4 and "package 'shtab' is missing: pip install 'usvs[completion]'" in errors


RESULTS = {"completion", "doctor"}  # a script, and lines for a person


def test_every_command_with_a_result_has_json():
    lacking = [
        name
        for name, parser in iter_commands(build_parser())
        if "--json" not in parser._option_string_actions and name.split()[1] not in RESULTS
    ]
    assert not lacking


def test_the_long_commands_have_a_dry_run():
    parsers = dict(iter_commands(build_parser()))
    names = ("index", "prepare", "pretrain", "finetune planes", "finetune classify", "finetune gaze")
    assert all("--dry-run" in parsers[f"usvs {name}"]._option_string_actions for name in names)


def test_options_are_not_abbreviated_and_name_their_nearest(tmp_path, capsys):
    for word, nearest in (("--dry", "--dry-run"), ("--profil", "--profile"), ("--sett", "--set")):
        code, _, errors = run(capsys, "pretrain", tmp_path, tmp_path / "run", word, "x")
        assert code == 2 and f"unknown argument '{word}'" in errors and f"did you mean '{nearest}'" in errors


def test_paths_in_suggested_commands_are_quoted():
    """A command with a path in it is made by `shell_command`: no f-string writes 'usvs VERB ... {path}' itself."""
    found = []
    for file in sorted(PACKAGE.rglob("*.py")):
        source = file.read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source if "usvs " in source else "")):
            if isinstance(node, ast.JoinedStr):
                text = "".join(part.value if isinstance(part, ast.Constant) else "\0" for part in node.values)
                if any("\0" in quoted for quoted in _quoted_commands(text)):
                    found.append(f"{file.relative_to(PACKAGE.parent)}:{node.lineno}: {text}")
    assert not found
    assert _quoted_commands("run 'usvs index \0 \0'") == ["usvs index \0 \0"]


def _quoted_commands(text: str) -> list[str]:
    return [part for part in text.split("'")[1::2] if part.startswith("usvs ")] + (
        [text.partition("run: ")[2]] if "run: usvs " in text else []
    )


def test_no_help_is_a_metavar_without_words():
    for name, parser in iter_commands(build_parser()):
        for action in parser._actions:
            if not isinstance(action, argparse._HelpAction):
                assert action.help and len(action.help.split()) > 1, (name, action.dest)
