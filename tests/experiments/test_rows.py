"""The rows of the paper's tables: one record each, which presets, tables and figures read."""

from usvs.experiments import tables
from usvs.experiments.presets import PRESETS
from usvs.experiments.rows import PRETRAINED, ROWS
from usvs.tasks.pretraining.settings import OBJECTIVES


def test_every_pretrained_row_has_its_settings_and_every_row_its_place():
    assert set(PRETRAINED) == set(OBJECTIVES)
    assert set(PRESETS["paper"].rows) == set(ROWS) == set(tables.FROZEN)
    assert all(init in ROWS for init in (*tables.TABLE_1, *tables.TABLE_3, *PRESETS["evidence"].rows))


def test_the_order_of_results_stays():
    assert PRESETS["paper"].rows == (
        "random", "video", "baseline", "contrastive", "joint", "shuffled", "imagenet", "sononet",
    )  # fmt: skip
