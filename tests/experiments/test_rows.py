"""The rows of the paper's tables: one record each, which presets, tables and figures read."""

from usvs.config import load_settings
from usvs.experiments import tables
from usvs.experiments.presets import PRESETS
from usvs.experiments.rows import PRETRAINED, ROWS
from usvs.tasks.pretraining.settings import OBJECTIVES, pretrain_profile


def test_every_pretrained_row_has_its_settings_and_every_row_its_place():
    assert set(PRETRAINED) == set(OBJECTIVES)
    assert set(PRESETS["paper"].rows) == set(ROWS) == set(tables.FROZEN)
    assert all(init in ROWS for init in (*tables.TABLE_1, *tables.TABLE_3, *PRESETS["evidence"].rows))


def test_the_order_of_results_stays():
    assert PRESETS["paper"].rows == (
        "random", "video", "baseline", "contrastive", "joint", "baseline_with_order", "contrastive_with_order",
        "shuffled", "imagenet", "sononet",
    )  # fmt: skip


def test_the_ablation_is_that_of_section_3_4():
    """The baseline has L_cls alone, on all clips; L_cont is added; then L_ord and affinity."""
    weights = ("correspondence_weight", "contrastive_weight", "order_weight", "affinity")
    rows = {
        row: load_settings(pretrain_profile("paper"), overrides=list(OBJECTIVES[row])).objective for row in OBJECTIVES
    }
    found = {row: tuple(getattr(objective, name) for name in weights) for row, objective in rows.items()}
    assert found["baseline"] == (1, 0, 0, False) and found["contrastive"] == (1, 1, 0, False)
    assert found["joint"] == (1, 1, 1, True)
    assert found["baseline_with_order"] == (1, 0, 1, False) and found["contrastive_with_order"] == (1, 1, 1, False)
