"""`usvs.diagnose`: what an archive offers, what a run has learnt from it, and what can be learnt at all."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from usvs.config import Profile
from usvs.data.validation_split import PatientSplit, split_store
from usvs.errors import ConfigError, DataError
from usvs.store.prepared import PreparedStore, check_clip_length
from usvs.tasks.diagnosis.agreement import Agreement, measure_agreement
from usvs.tasks.diagnosis.ceilings import UPDATES, Ceiling, Ceilings, measure_ceilings
from usvs.tasks.diagnosis.contents import ArchiveContents, count_contents
from usvs.tasks.diagnosis.labelled_samples import open_labels
from usvs.tasks.diagnosis.losses import RunReading, read_run
from usvs.tasks.diagnosis.verdict import Verdict, describe_losses, give_verdict
from usvs.tasks.pretraining.chance import uses_pairs
from usvs.tasks.pretraining.load import load_pretrain_model
from usvs.tasks.pretraining.settings import PretrainSettings, pretrain_profile
from usvs.tasks.pretraining.validation import uses_embeddings
from usvs.tasks.trained_patients import trained_patients
from usvs.training.checkpoint import load_checkpoint, newest_checkpoint_folder
from usvs.training.environment import describe_environment
from usvs.training.process import process_settings
from usvs.training.trainer import Trainer, choose_device
from usvs.utils.plain_json import plain_json


@dataclass(frozen=True)
class Diagnosis:
    """What `diagnose` found.

    Attributes:
        contents: what the archive offers.
        run: what the run has learnt; None without a run.
        agreement: of embeddings within a clip, a scan and between scans; empty without a run.
        ceilings: supervised, of both streams; None without labels.
        verdict: in plain words.
        environment: device, revision and packages.
    """

    contents: ArchiveContents
    run: RunReading | None
    agreement: tuple[Agreement, ...]
    ceilings: Ceilings | None
    verdict: Verdict
    environment: Mapping[str, Any]

    def __str__(self) -> str:
        lines = [f"archive: {self.contents}"]
        if self.run is not None:
            lines += describe_losses(self.run.losses)
            lines += [
                f"{name.replace('pool_top1_', '').replace('_', '-')} retrieval {value:.3f}"
                f" (chance {self.run.retrieval[f'{name}_chance']:.3f})"
                for name, value in self.run.retrieval.items()
                if not name.endswith("_chance")
            ]
            lines += [
                f"{name} embeddings: rank {found.rank:.1f}, spread {found.spread:.3f}"
                + (", collapsed" if found.collapsed else "")
                for name, found in self.run.streams.items()
            ]
        lines += [str(each) for each in self.agreement]
        if self.ceilings is not None:
            lines.append(f"label from a frame: {_describe(self.ceilings.picture)}")
            if self.ceilings.speech is not None:
                lines.append(f"label from a piece of speech: {_describe(self.ceilings.speech)}")
        return "\n".join([*lines, f"verdict: {self.verdict}"])

    def to_json(self) -> dict[str, Any]:
        """Return plain values; what is not known, such as the interval of a single batch, is None."""
        plain: dict[str, Any] = {
            "contents": asdict(self.contents),
            "run": None,
            "agreement": [asdict(each) for each in self.agreement],
            "ceilings": None if self.ceilings is None else _plain_ceilings(self.ceilings),
            "verdict": self.verdict._asdict(),
            "environment": dict(self.environment),
        }
        if self.run is not None:
            plain["run"] = {
                "steps": self.run.steps,
                "losses": {loss.name: asdict(loss) | {"verdict": loss.verdict} for loss in self.run.losses},
                "retrieval": dict(self.run.retrieval),
                "streams": {
                    name: {**found._asdict(), "collapsed": found.collapsed} for name, found in self.run.streams.items()
                },
            }
        known: dict[str, Any] = plain_json(plain)
        return known


def diagnose(
    store: str | Path,
    run: str | Path | None = None,
    labels: str | Path | None = None,
    *,
    settings: PretrainSettings | None = None,
    profile: Profile = "paper",
    encoder: nn.Module | None = None,
    loss: nn.Module | None = None,
    updates: int = UPDATES,
) -> Diagnosis:
    """Say whether an archive can carry the method, whether a run has learnt from it, and what to try next.

    Example:
        >>> print(usvs.diagnose("STORE", "RUN", labels="labels.csv"))

    Args:
        store: a folder made by `usvs.index_archive` and `usvs.prepare_store`.
        run: of `usvs.pretrain` on this store; None: only what the archive offers.
        labels: what is visible when: a csv file with the columns ``file`` (path of the scan in the archive),
            ``start_seconds``, ``end_seconds`` and ``label``; a folder with a file ``PATH.intervals.csv`` for each scan;
            or ``store``: the labels of frames that the store has. None: no supervised ceilings.
        settings: to count steps with, and for the ceilings; None: those of the run, or of `profile` without a run.
        profile: ``paper``, ``quick`` or ``small``; ignored where there is a run or `settings`.
        encoder: a module of the run's architecture, where it was pretrained with an own one.
        loss: the run's own loss, where it had one.
        updates: of each supervised network.

    Returns:
        All figures, each beside chance, and the verdict.

    Raises:
        DataError: for a store, run or labels that cannot be read or do not belong together.
        ConfigError: for settings that do not fit the store.
    """
    opened = PreparedStore(Path(store))
    model = None
    if run is not None:
        model, own = load_pretrain_model(run, encoder, loss)
        settings = own if settings is None else settings
    chosen = pretrain_profile(profile) if settings is None else settings
    if updates < 1:
        raise ConfigError(f"updates: expected at least 1, got {updates}")
    check_clip_length(opened, chosen.clips)
    split = split_store(opened, chosen.validation_fraction) if run is None else split_of_run(Path(run), opened)
    source = None if labels is None else open_labels(opened, labels)
    contents = count_contents(opened, chosen, split)
    reading = None
    agreement: tuple[Agreement, ...] = ()
    device = choose_device(chosen.run.device)
    environment = describe_environment(device)  # now: a checkout may change while this runs
    with process_settings(device):
        if model is not None and run is not None:
            eager = chosen.run.model_copy(update={"compile": "eager", "micro_batch_clips": None})
            trainer = Trainer(model, own.optimiser, eager, 1, 1)
            clips = opened.clips
            train, unseen = (clips.select(split.clips_of(side, clips.scan)) for side in (split.train, split.validation))
            reading = read_run(model, trainer, opened, own, train, unseen, _steps_of(Path(run)))
            if uses_pairs(own.objective) and uses_embeddings(own.objective):
                agreement = measure_agreement(model, trainer, opened, own, unseen if len(unseen) else train)
        ceilings = None if source is None else measure_ceilings(opened, chosen, split, source, updates)
    verdict = give_verdict(contents, reading, ceilings)
    return Diagnosis(contents, reading, agreement, ceilings, verdict, environment)


def split_of_run(run: Path, store: PreparedStore) -> PatientSplit:
    """Return the patients that a run was trained on and all others of the store."""
    groups = split_store(store, 0.0).scan_group
    trained = (trained_patients(run) or {}).get(store.store_id, frozenset())
    known: Sequence[str] = sorted(set(groups))
    train = tuple(group for group in known if group in trained)
    if not train:
        raise DataError(
            f"run '{run}': expected one that was pretrained on store '{store.store}', got one of other patients"
        )
    return PatientSplit(train, tuple(group for group in known if group not in trained), groups)


def _steps_of(run: Path) -> int:
    return int(load_checkpoint(newest_checkpoint_folder(run)).state["step"])


def _describe(ceiling: Ceiling) -> str:
    return (
        f"macro F1 {ceiling.f1.f1:.3f} on {ceiling.test_patients} unseen patients (chance {ceiling.f1.chance:.3f}; 95 %"
        f" interval of the difference {ceiling.f1.low:+.3f} to {ceiling.f1.high:+.3f}) after {ceiling.updates} updates"
    )


def _plain_ceilings(ceilings: Ceilings) -> dict[str, Any]:
    plain = asdict(ceilings)
    for name in ("picture", "speech"):
        ceiling: Ceiling | None = getattr(ceilings, name)
        if ceiling is not None:
            plain[name] |= {"f1": ceiling.f1._asdict(), "at_chance": ceiling.at_chance}
    return plain
