"""The result of a pretraining run, and validation metrics as text."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

LABELS = {
    "correspondence": "L_cls",
    "contrastive": "L_cont",
    "order": "L_ord",
    "correspondence_accuracy": "pair accuracy",
    "order_accuracy": "order accuracy",
    "pool_top1_speech_to_video": "speech-to-video retrieval",
    "pool_top1_video_to_speech": "video-to-speech retrieval",
}
# What counts as clearly better than chance, beyond the noise of some hundred clips: the ratio of value to chance.
MAX_LOSS_RATIO = 0.98
MIN_RETRIEVAL_RATIO = 5.0
LOSSES = ("correspondence", "contrastive", "order")
RETRIEVAL = ("pool_top1_speech_to_video", "pool_top1_video_to_speech")


@dataclass(frozen=True)
class PretrainResult:
    """A finished run.

    Attributes:
        run: its folder, for `usvs.load_encoder`.
        checkpoint: the folder of the last checkpoint.
        steps: updates made, including those before it was resumed.
        seconds: wall time of this call.
        metrics: the last validation metrics, each ``NAME`` with a known chance level beside ``NAME_chance``; empty
            without validation patients.
    """

    run: Path
    checkpoint: Path
    steps: int
    seconds: float
    metrics: dict[str, float]

    def __str__(self) -> str:
        lines = [f"pretrained {self.steps} steps in {self.seconds:.0f} s; the run is in {self.run}"]
        if known := describe_metrics(self.metrics):
            lines += [f"validation: {known}", verdict(self.metrics)]
        return "\n".join(lines)


def describe_metrics(metrics: Mapping[str, float]) -> str:
    """Return the metrics that have a chance level in one line, for example ``L_cls 0.643 (chance 0.693)``."""
    return ", ".join(
        f"{label} {metrics[name]:.3f} (chance {metrics[f'{name}_chance']:.3f})"
        for name, label in LABELS.items()
        if name in metrics and f"{name}_chance" in metrics
    )


def verdict(metrics: Mapping[str, float]) -> str:
    """Return one sentence: which losses and retrievals are clearly better than chance, or what to try if none is."""
    better = [label for name, label in LABELS.items() if _is_better(name, metrics)]
    if better:
        return f"clearly better than chance on validation patients: {', '.join(better)}"
    return "not clearly better than chance on validation patients: train longer (optimiser.epochs) or on more scans"


def _is_better(name: str, metrics: Mapping[str, float]) -> bool:
    if name not in metrics or f"{name}_chance" not in metrics:
        return False
    ratio = metrics[name] / metrics[f"{name}_chance"]
    return (name in LOSSES and ratio <= MAX_LOSS_RATIO) or (name in RETRIEVAL and ratio >= MIN_RETRIEVAL_RATIO)
