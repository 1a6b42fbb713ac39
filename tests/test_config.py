from pathlib import Path

import pytest

from usvs.config import Settings, load_settings, override_settings
from usvs.errors import ConfigError


class Optimiser(Settings):
    epochs: int = 80
    learning_rate: float = 1e-3


class Run(Settings):
    seed: int = 0
    folder: str | None = None


class Everything(Settings):
    optimiser: Optimiser = Optimiser()
    run: Run = Run()
    scale: tuple[float, float] = (0.5, 1.0)


BASE = Everything(run=Run(seed=7))


@pytest.mark.parametrize(
    "overrides",
    [
        {"optimiser": {"epochs": 2}},
        {"optimiser": Optimiser(epochs=2)},
        {"optimiser.epochs": 2},
        {"optimiser": {"epochs": "2"}},
    ],
)
def test_overrides_replace_what_they_name(overrides: dict[str, object]) -> None:
    changed = override_settings(BASE, **overrides)
    assert changed == Everything(run=Run(seed=7), optimiser=Optimiser(epochs=2))
    assert type(changed) is Everything


def test_a_mapping_keeps_the_rest_of_its_group_and_a_settings_object_replaces_it() -> None:
    base = Everything(optimiser=Optimiser(learning_rate=0.5))
    assert override_settings(base, optimiser={"epochs": 2}).optimiser.learning_rate == 0.5
    assert override_settings(base, optimiser=Optimiser(epochs=2)).optimiser.learning_rate == 1e-3


def test_without_overrides_the_base_is_returned() -> None:
    assert override_settings(BASE) is BASE


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"optimizer": {"epochs": 2}}, "unknown setting 'optimizer': did you mean 'optimiser'?"),
        ({"optimiser": {"epoch": 2}}, "unknown setting 'optimiser.epoch': did you mean 'optimiser.epochs'?"),
        ({"optimiser.epoch": 2}, "unknown setting 'optimiser.epoch': did you mean 'optimiser.epochs'?"),
        ({"optimiser.lr": 2}, "unknown setting 'optimiser.lr': did you mean 'optimiser.learning_rate'?"),
        ({"learning_rate": 2}, "unknown setting 'learning_rate': did you mean 'optimiser.learning_rate'?"),
        ({"xyz": 2}, "unknown setting 'xyz': expected one of optimiser, run, scale"),
        ({"scale.low": 2}, "unknown setting 'scale.low': 'scale' is one value, not a table"),
        ({"optimiser": 3}, "setting 'optimiser': expected a table of settings, got 3"),
        ({"optimiser": Run()}, "unknown setting 'optimiser.seed': did you mean 'run.seed'?"),
        ({"optimiser": {"epochs": "many"}}, "setting 'optimiser.epochs': .*valid integer.*, got 'many'"),
    ],
)
def test_wrong_overrides_name_the_setting_and_the_nearest_one(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        override_settings(BASE, **overrides)


def test_a_file_then_texts_replace_values(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("scale = [0.1, 0.2]\n[optimiser]\nepochs = 3\nlearning_rate = 0.25\n")
    changed = load_settings(BASE, str(file), ["optimiser.epochs=2", "run.folder=a=b"])
    assert changed.optimiser == Optimiser(epochs=2, learning_rate=0.25)
    assert changed.run == Run(seed=7, folder="a=b")
    assert changed.scale == (0.1, 0.2)


def test_a_settings_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"settings file '.*absent.toml' cannot be read: No such file or directory"):
        load_settings(BASE, tmp_path / "absent.toml")
    (tmp_path / "bad.toml").write_text("a = = 1")
    with pytest.raises(ConfigError, match=r"settings file '.*bad.toml': "):
        load_settings(BASE, tmp_path / "bad.toml")
    with pytest.raises(ConfigError, match=r"setting 'optimiser.epochs': expected NAME=VALUE"):
        load_settings(BASE, overrides=["optimiser.epochs"])
