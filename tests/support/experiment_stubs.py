"""Stand-ins for the expensive steps of an experiment: pretraining, evaluating a pretraining, measuring a fold."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from usvs.evaluation.folds import Fold
from usvs.experiments import definition, pretrainings, runner
from usvs.models.se_resnext import SEResNeXt
from usvs.store.identity import read_store_id
from usvs.tasks import initial_encoder as inits


@dataclass
class Calls:
    """What was asked of the stand-ins: run folder, settings and patients of pretrainings, and each measurement."""

    pretrained: list[tuple[str, Any, tuple[str, ...]]] = field(default_factory=list)
    measured: list[tuple[str, Any, Fold]] = field(default_factory=list)


def stub_pretraining(patch: pytest.MonkeyPatch, encoder: Any, patients: list[str] | None = None) -> Calls:
    """Let pretraining only write what a run leaves behind.

    Args:
        patch: undoes it.
        encoder: settings of the network that every pretraining results in.
        patients: those that the runs say they were trained on; None for those asked for.
    """
    calls = Calls()

    def pretrain(store, run, settings, resume=False, patients_asked=None, **options):
        patients_asked = options.pop("patients", patients_asked)
        calls.pretrained.append((run.name, settings, tuple(patients_asked)))
        run.mkdir(parents=True, exist_ok=True)
        trained = list(patients_asked) if patients is None else patients
        (run / "patients.json").write_text(
            json.dumps({"store": read_store_id(Path(store)), "trained": trained, "validation": []})
        )
        record = {"step": 9, "split": "validation", "order": 2.1, "order_chance": 2.48}
        (run / "metrics.jsonl").write_text(json.dumps(record) + "\n")

    def load(path, *more):
        torch.manual_seed(3 if "joint" in str(path) else 4)
        return SEResNeXt(encoder)

    patch.setattr(pretrainings, "pretrain", pretrain)
    patch.setattr(definition, "evaluate_pretraining", lambda store, run, patients: {"order": 2.0, "order_chance": 2.48})
    patch.setattr(inits, "load_encoder", load)
    return calls


def stub_measuring(patch: pytest.MonkeyPatch, calls: Calls) -> None:
    """Let every measurement be a value that only its arguments decide."""

    def measure_fold(task, store, table, fold, settings, init, protocol, *more, **options):
        calls.measured.append((task.name, protocol, fold))
        f1 = (sum(map(ord, f"{Path(str(init)).name}{protocol}{''.join(fold.train)}")) + settings.run.seed) % 97 / 100
        scores = dict.fromkeys(("precision", "recall", "f1", "kl", "nss", "auc", "cc", "sim", "auc_exact"), f1)
        result = {"fold": fold.number, "train_patients": list(fold.train), "test_patients": list(fold.test), **scores}
        return SimpleNamespace(metrics=f"F1 {f1}", seconds=0.0, module=None, to_json=lambda: result)

    patch.setattr(runner, "measure_fold", measure_fold)
