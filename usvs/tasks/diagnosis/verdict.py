"""The verdict in plain words: what was learnt, or why an archive cannot carry it, and what to try next."""

import math
from typing import NamedTuple

from usvs.tasks.diagnosis.ceilings import Ceilings
from usvs.tasks.diagnosis.contents import ArchiveContents
from usvs.tasks.diagnosis.losses import WITHOUT_CONTRAST, LossReading, RunReading

# On the phantom L_cont leaves chance after 300 to 450 steps (docs/learning.md, "Search for the settings").
MIN_STEPS = 450
MIN_TRAINING_PATIENTS = 2
EPOCHS = "optimiser.epochs"


class Verdict(NamedTuple):
    """One paragraph, and whether the archive can carry the method.

    Attributes:
        can_carry: False where the figures say that it cannot; True where it has learnt; None where nothing measured
            decides it.
        text: for a person.
    """

    can_carry: bool | None
    text: str

    def __str__(self) -> str:
        return self.text


def give_verdict(
    contents: ArchiveContents | None, run: RunReading | None = None, ceilings: Ceilings | None = None
) -> Verdict:
    """Return the verdict on an archive, a run, or both.

    Args:
        contents: what the archive offers; None: not counted.
        run: what a run has learnt; None: there is none.
        ceilings: what can be read of labels; None: there are none.
    """
    if run is not None and _names(run, "learning", run.matching):
        return Verdict(True, _learning(run) + _shared(ceilings))
    if run is not None and _names(run, "too certain", run.matching):
        return Verdict(True, _too_certain(run) + _shared(ceilings))
    if run is not None and not run.matching:
        return Verdict(None, _unmatched(run))
    if reasons := _obstacles(contents, ceilings) or _too_little_shared(run, ceilings):
        text = f"this archive cannot carry it, because {'; and '.join(reasons)}.{_state(run)}{_order_only(run)}"
        return Verdict(False, text)
    if run is None:
        return Verdict(None, _untried(contents) + _shared(ceilings))
    return Verdict(None, _not_learning(run, ceilings) + _shared(ceilings))


def too_few_steps(steps: int, epochs: int | None = None) -> str:
    """Return a sentence where a run's steps are too few to leave chance, or an empty text.

    Args:
        steps: updates of the complete run.
        epochs: that give so many; None: the sentence says how many times as many are needed.
    """
    if steps >= MIN_STEPS:
        return ""
    factor = MIN_STEPS / max(steps, 1)
    use = f"{math.ceil(factor)} times as many epochs (optimiser.epochs)"
    if epochs is not None:
        use = f"--set {EPOCHS}={math.ceil(factor * epochs)}"
    return (
        f"These settings give {steps} steps, too few: on the phantom the loss leaves chance after 300 to {MIN_STEPS}."
        f" Use {use}."
    )


def describe_losses(losses: tuple[LossReading, ...]) -> list[str]:
    """Return one line for each loss: on training patients, on unseen ones, beside chance, and its verdict."""
    return [
        f"{loss.label}: training patients {loss.train or 'none'}, unseen patients {loss.unseen or 'none'}"
        + (f", {_at_fitted(loss)} {loss.fitted}" if loss.fitted else "")
        + f": {loss.verdict}"
        for loss in losses
    ]


def _names(run: RunReading, verdict: str, names: tuple[str, ...] | None = None) -> list[str]:
    return [loss.label for loss in run.losses if loss.verdict == verdict and (names is None or loss.name in names)]


def _obstacles(contents: ArchiveContents | None, ceilings: Ceilings | None) -> list[str]:
    reasons = []
    if contents is not None:
        if contents.scans_with_sound == 0:
            return ["no scan has sound: nothing is said about the pictures. 'usvs pretrain' with --objective video"
                    " learns from the order of frames alone"]  # fmt: skip
        if contents.pair_clips == 0:
            return [
                f"no clip has enough speech near another clip with sound ({contents.speech_minutes:.1f} minutes of"
                " speech in all)"
            ]
        if contents.training_pair_clips < contents.batch_clips:
            reasons.append(
                f"only {contents.training_pair_clips} clips of training patients have enough speech, fewer than the"
                f" {contents.batch_clips} clips of one step, so that the same pairs are compared in every step"
            )
        if contents.training_patients < MIN_TRAINING_PATIENTS:
            reasons.append(
                "there is one patient to train on, whose pictures and voice cannot be separated from content"
            )
    if ceilings is not None:
        if ceilings.speech is None:
            reasons.append("no clip with enough speech shows two different labels")
        elif ceilings.speech.at_chance:
            reasons.append(
                "speech does not name what is visible: a network trained on the labels reads them from a piece of"
                f" speech of unseen patients no better than chance (macro F1 {ceilings.speech.f1.f1:.2f}, chance"
                f" {ceilings.speech.f1.chance:.2f})"
            )
        if ceilings.picture.at_chance:
            reasons.append(
                "the pictures do not show the labels: a network trained on them reads them from a frame of unseen"
                f" patients no better than chance (macro F1 {ceilings.picture.f1.f1:.2f}, chance"
                f" {ceilings.picture.f1.chance:.2f})"
            )
    return reasons


def _too_little_shared(run: RunReading | None, ceilings: Ceilings | None) -> list[str]:
    """A reason where all that the labels allow is less than the noise of the run's L_cont on unseen patients."""
    widths = [] if run is None else [loss.unseen.half_width for loss in run.losses if loss.unseen and _contrasts(loss)]
    if ceilings is None or not widths or not ceilings.bound_nats < widths[0]:
        return []
    spoken = 0.0 if ceilings.speech is None else ceilings.speech.nats
    return [
        "speech and pictures share too little for networks of this size: of the"
        f" {ceilings.label_nats:.2f} nats of the labels, supervised ones read {ceilings.picture.nats:.2f} from a frame"
        f" and {spoken:.2f} from a piece of speech of unseen patients."
        f" Through the labels L_cont can fall at most {ceilings.bound_nats:.2f} nats below chance, less than its"
        f" interval there (± {widths[0]:.2f})"
    ]


def _contrasts(loss: LossReading) -> bool:
    return loss.name == "contrastive"


def _state(run: RunReading | None) -> str:
    if run is None:
        return ""
    found = [f"{loss.label} {loss.verdict}" for loss in run.losses if loss.name in run.matching]
    return f" The run after {run.steps} steps: {', '.join(found)}."


def _learning(run: RunReading) -> str:
    parts = [f"it learns: {', '.join(_names(run, 'learning'))} below chance on unseen patients after {run.steps} steps"]
    if certain := _names(run, "too certain"):
        parts.append(f"with too much certainty: {', '.join(certain)}")
    if memorised := _names(run, "memorising"):
        parts.append(f"only on training patients: {', '.join(memorised)}")
    if nothing := _names(run, "not learning"):
        parts.append(f"not below chance: {', '.join(nothing)}")
    text = f"{'; '.join(parts)}.{_collapse(run)}"
    if run.matching == WITHOUT_CONTRAST:
        text += " L_cls alone may have learnt to separate speech from silence."
    return (
        text
        + _one_way(run)
        + (" If L_cont was still falling at the end (metrics.jsonl), more epochs will give more (optimiser.epochs).")
    )


def _too_certain(run: RunReading) -> str:
    losses = [loss for loss in run.losses if loss.verdict == "too certain" and loss.name in run.matching]
    found = "; ".join(f"{loss.label} {_at_fitted(loss)} {loss.fitted}" for loss in losses)
    return (
        f"it matches speech and pictures of unseen patients, but is too certain of it after {run.steps} steps: {found}."
        f" What was learnt by heart makes it certain.{_one_way(run)}{_collapse(run)} More patients help most; then"
        " fewer epochs or stronger augmentation."
    )


def _one_way(run: RunReading) -> str:
    if "reverse" not in run.matching or any(_names(run, found, ("reverse",)) for found in ("learning", "too certain")):
        return ""
    return " From speech to pictures it is not below chance, so it may have learnt to separate speech from silence."


def _at_fitted(loss: LossReading) -> str:
    found = " and ".join(f"{value:g}" for value in sorted(set(loss.temperatures)))
    return f"at the fitted temperature {found}"


def _not_learning(run: RunReading, ceilings: Ceilings | None) -> str:
    if not any(loss.unseen for loss in run.losses):
        return (
            f"whether it learns is not known: there is no unseen patient with speech after {run.steps} steps. Keep some"
            " for validation (validation_fraction)."
        )
    if memorised := _names(run, "memorising", run.matching):
        return (
            f"it memorises: {', '.join(memorised)} below chance on training patients only after {run.steps} steps."
            f"{_collapse(run)} More patients help most; then fewer epochs or stronger augmentation."
        )
    text = f"it does not learn: no match of speech and pictures below chance after {run.steps} steps.{_collapse(run)}"
    if run.steps < MIN_STEPS:
        text += (
            f" That is too few steps to tell: on the phantom the loss leaves chance after 300 to {MIN_STEPS} steps."
            " Train longer (optimiser.epochs)."
        )
    elif run.collapsed:
        text += " Use the objective of profile quick or small, which prevents it (objective.stream_weight)."
    elif ceilings is None:
        text += (
            " Label some scans and run 'usvs diagnose STORE RUN --labels FILE': it shows whether speech and pictures"
            " have anything in common. If they do, train longer or with larger batches (profile small)."
        )
    else:
        text += " Speech and pictures both show the labels, so train longer or with larger batches (profile small)."
    return text + _order_only(run)


def _unmatched(run: RunReading) -> str:
    found = _names(run, "learning")
    what = f"{', '.join(found)} below chance on unseen patients" if found else "no loss below chance on unseen patients"
    return f"this run has no loss that matches speech and pictures; {what} after {run.steps} steps."


def _order_only(run: RunReading | None) -> str:
    others = [] if run is None else [loss for loss in run.losses if loss.name not in run.matching]
    found = [loss.label for loss in others if loss.verdict == "learning"]
    return f" Below chance on unseen patients, without any match of the streams: {', '.join(found)}." if found else ""


def _collapse(run: RunReading) -> str:
    return "".join(
        f" The {name} embeddings have collapsed (rank {run.streams[name].rank:.1f}, spread"
        f" {run.streams[name].spread:.3f})."
        for name in run.collapsed
    )


def _untried(contents: ArchiveContents | None) -> str:
    if contents is None:
        return "nothing was measured."
    text = (
        f"nothing here prevents learning: {contents.speech_minutes:.1f} minutes of speech,"
        f" {contents.training_pair_clips} clips to train on. Whether speech and pictures have anything in common shows"
        " only in a run ('usvs pretrain') or with labels (--labels)."
    )
    return f"{text} {few}" if (few := too_few_steps(contents.steps)) else text


def _shared(ceilings: Ceilings | None) -> str:
    if ceilings is None or ceilings.speech is None:
        return ""
    return (
        f" Of the {ceilings.label_nats:.2f} nats of the labels, supervised networks read {ceilings.picture.nats:.2f}"
        f" from a frame and {ceilings.speech.nats:.2f} from a piece of speech of unseen patients; if both have nothing"
        f" in common but the labels, L_cont can fall at most {ceilings.bound_nats:.2f} nats below chance, and about"
        f" {ceilings.expected_nats:.2f} are likely."
    )
