"""The result of a pretraining run, and validation metrics as text."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from usvs.tasks.diagnosis.losses import RunReading
from usvs.tasks.diagnosis.verdict import Verdict, describe_losses

LABELS = {
    "correspondence": "L_cls",
    "contrastive": "L_cont",
    "order": "L_ord",
    "correspondence_accuracy": "pair accuracy",
    "order_accuracy": "order accuracy",
    "pool_top1_speech_to_video": "speech-to-video retrieval",
    "pool_top1_video_to_speech": "video-to-speech retrieval",
}


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
        reading: each loss on fixed batches of training and of validation patients; None where it was not measured.
        verdict: what was learnt, in plain words, and what to try next; likewise.
    """

    run: Path
    checkpoint: Path
    steps: int
    seconds: float
    metrics: dict[str, float]
    reading: RunReading | None = None
    verdict: Verdict | None = None

    def __str__(self) -> str:
        lines = [f"pretrained {self.steps} steps in {self.seconds:.0f} s; the run is in {self.run}"]
        if known := describe_metrics(self.metrics):
            lines.append(f"validation: {known}")
        if self.reading is not None and self.verdict is not None and self.reading.losses:
            lines += [*describe_losses(self.reading.losses), f"verdict: {self.verdict}"]
        return "\n".join(lines)


def describe_metrics(metrics: Mapping[str, float]) -> str:
    """Return the metrics that have a chance level in one line, for example ``L_cls 0.643 (chance 0.693)``."""
    return ", ".join(
        f"{label} {metrics[name]:.3f} (chance {metrics[f'{name}_chance']:.3f})"
        for name, label in LABELS.items()
        if name in metrics and f"{name}_chance" in metrics
    )
