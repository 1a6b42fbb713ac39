"""The results of the preset ``paper`` as text: Tables 1, 2 and 3 beside the paper's values, controls, tested claims."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from usvs.evaluation.metrics import Spread
from usvs.evaluation.significance import PairedDifference, paired_difference
from usvs.experiments.evidence_table import TEST
from usvs.experiments.rows import EXTERNAL, ROWS, Printed

PLANE_SCORES = (("Precision", "precision"), ("Recall", "recall"), ("F1-score", "f1"))
GAZE_SCORES = (("KL (lower)", "kl"), ("NSS", "nss"), ("AUC-Judd", "auc"), ("CC", "cc"), ("SIM", "sim"))
TABLE_1 = ("random", "video", "joint", "imagenet", "sononet", "shuffled")
TABLE_3 = ("baseline", "contrastive", "joint", "baseline_with_order", "contrastive_with_order")
FROZEN = ("random", "video", *TABLE_3, "shuffled", "imagenet", "sononet")
SIGNIFICANT = 0.05
LOWER_IS_BETTER = ("kl",)
NOT_RUN = "not run: no weights given"


class Claim(NamedTuple):
    """The statement that one init is better than another in one score of one evaluation."""

    evaluation: str
    score: str
    better: str
    worse: str


def claims() -> list[Claim]:
    """Return the orders that the paper found, and those that the controls must show."""
    scores = [("planes", "f1"), *(("gaze", score) for score in ("nss", "cc", "auc", "kl")), ("probe", "f1")]
    chains = (("joint", "video"), ("video", "random"), ("contrastive", "baseline"), ("joint", "contrastive"))
    found = [Claim(*score, *pair) for pair in chains for score in scores]
    controls = [Claim(*score, "joint", "shuffled") for score in scores]
    return found + controls + [Claim("probe", "f1", "joint", "random")]


class Tested(NamedTuple):
    """The test of a claim: the difference in the direction of the claim, and whether it holds."""

    difference: PairedDifference
    holds: bool


def check_claim(measured: Mapping[str, Any], claim: Claim) -> Tested | None:
    """Test a claim over the seeds and folds of both inits; None where one of them was not run."""
    inits = measured.get(claim.evaluation, {})
    if claim.better not in inits or claim.worse not in inits:
        return None
    first, second = ([result[claim.score] for result in inits[init]] for init in (claim.better, claim.worse))
    if claim.score in LOWER_IS_BETTER:
        first, second = second, first
    difference = paired_difference(first, second)
    return Tested(difference, difference.mean > 0 and difference.p_value < SIGNIFICANT)


def paper_tables(results: dict[str, Any]) -> str:
    """Return the tables of a ``results.json`` of the preset ``paper``."""
    measured = results["measured"]
    parts = [_header(results)]
    if measured["planes"]:
        parts += [_table_1(results), _frozen(results)]
    if measured["gaze"]:
        parts += [_table_2(results)]
    parts += [_table_3(measured), _retrieval(results), _claims(measured)]
    return "\n\n".join(part for part in parts if part)


def _header(results: dict[str, Any]) -> str:
    patients, seeds = results["patients"], len(results["seeds"])
    folds = results["settings"]["planes"]["folds"]
    overlap = "overlapping, as allowed" if results["allow_overlap"] else "disjoint"
    return (
        f"profile {results['settings']['profile']}; mean ± standard deviation over {seeds} seeds x {folds} folds"
        f" by patient\n{len(patients['pretraining'])} patients for pretraining, {len(patients['downstream'])} for"
        f" fine-tuning and tests, {overlap}; 'paper': Jiao et al., MICCAI 2020, on its own data, three folds"
    )


def _table_1(results: dict[str, Any]) -> str:
    planes = results["measured"]["planes"]
    name = results.get("title", "standard planes")
    task = "Standard plane detection" if name == "standard planes" else name[:1].upper() + name[1:]
    lines = [f"Table 1. {task}, fine-tuned, macro means over classes in %"]
    lines.append(f"{'':<18}" + "".join(f"{ROWS[init].title:>16}" for init in TABLE_1))
    for title, score in PLANE_SCORES:
        measured = [str(_spread(planes, init, score)) if init in planes else "not run" for init in TABLE_1]
        published = [_paper(ROWS[init].planes, score, 1) for init in TABLE_1]
        lines.append(f"{title:<18}" + "".join(f"{text:>16}" for text in measured))
        lines.append(f"{'  paper':<18}" + "".join(f"{text:>16}" for text in published))
    lines += _missing(planes, TABLE_1)
    weights = results["settings"]["planes"]["class_weights"]
    return "\n".join([*lines, f"chance F1 {100 * results['chance_f1']:.1f}; classes weighted in the loss: {weights}"])


def _frozen(results: dict[str, Any]) -> str:
    measured = results["measured"]
    lines = ["Frozen features of the same inits, macro F1 in %; Rand.Init. with calibrated batch-norm statistics"]
    lines.append(f"{'':<18}{'linear probe':>16}{'kNN':>16}")
    for init in FROZEN:
        if init in measured["probe"]:
            spreads = [str(_spread(measured[protocol], init, "f1")) for protocol in ("probe", "knn")]
            lines.append(f"{ROWS[init].title:<18}" + "".join(f"{spread:>16}" for spread in spreads))
    return "\n".join(lines)


def _table_2(results: dict[str, Any]) -> str:
    gaze, uniform = results["measured"]["gaze"], results["uniform_gaze"]
    lines = ["Table 2. Eye-gaze saliency prediction, fine-tuned"]
    lines.append(f"{'':<18}" + "".join(f"{title:>16}" for title, _ in GAZE_SCORES) + f"{'AUC exact':>16}")
    for init in TABLE_1:
        if init in gaze:
            lines.append(_gaze_line(gaze, init) + f"{_spread(gaze, init, 'auc_exact').plain():>16}")
        if ROWS[init].gaze:
            lines.append(_paper_gaze_line(init))
    scores = [uniform[score] for _, score in GAZE_SCORES] + [uniform["auc_exact"]]
    lines.append(f"{'(uniform map)':<18}" + "".join(f"{score:>16.2f}" for score in scores))
    lines += _missing(gaze, TABLE_1)
    settings = results["settings"]["gaze"]
    return "\n".join(
        [
            *lines,
            f"ground truth: Gaussians of {settings['sigma_degrees']:g} degrees; {uniform['fixations']:.1f} fixated"
            f" pixels per frame, so the chance level of AUC-Judd is {uniform['auc']:.2f}",
        ]
    )


def _table_3(measured: Mapping[str, Any]) -> str:
    lines = ["Table 3. Ablation"]
    titles = [f"{title} [%]" for title, _ in PLANE_SCORES] + [title for title, _ in GAZE_SCORES]
    lines.append(f"{'':<18}" + "".join(f"{title:>16}" for title in titles))
    for init in TABLE_3:
        planes = [
            str(_spread(measured["planes"], init, score)) if init in measured["planes"] else "not run"
            for _, score in PLANE_SCORES
        ]
        gaze = _gaze_line(measured["gaze"], init)[18:] if init in measured["gaze"] else ""
        lines.append(f"{ROWS[init].title:<18}" + "".join(f"{text:>16}" for text in planes) + gaze)
        if ROWS[init].planes:
            published = "".join(f"{_paper(ROWS[init].planes, score, 1):>16}" for _, score in PLANE_SCORES)
            lines.append(f"{'  paper':<18}{published}{_paper_gaze_line(init)[18:]}")
    lines.append("L_ord: the other reading, with the frame-order task in every row of the ablation")
    return "\n".join(lines)


def _retrieval(results: dict[str, Any]) -> str:
    """Return retrieval in both directions and losses on patients that were not pretrained on, beside chance levels."""
    titles = {
        "pool_top1_speech_to_video": "speech to video",
        "pool_top1_video_to_speech": "video to speech",
        "correspondence": "L_cls",
        "order": "L_ord",
    }
    lines = []
    for row, records in results["pretraining_losses"].items():
        known = [name for name in titles if records and all(name in record for record in records)]
        if known:
            values = [f"{titles[name]} {_mean(records, name)}" for name in known]
            lines.append(f"{ROWS[row].title:<18}" + ", ".join(values))
    if not lines:
        return ""
    title = "Retrieval (top-1 accuracy) and losses on patients not pretrained on; chance levels in brackets"
    return "\n".join([title, *lines])


def _claims(measured: Mapping[str, Any]) -> str:
    lines = [f"Claims: paired differences in the claimed direction; p: {TEST}; holds: positive and p < {SIGNIFICANT}"]
    for claim in claims():
        better, worse = ROWS[claim.better].title, ROWS[claim.worse].title
        text = f"{claim.evaluation} {claim.score}: {better} better than {worse}"
        if claim.evaluation == "probe" and claim.worse == "random":
            text += " (calibrated)"
        tested = check_claim(measured, claim)
        if tested is None:
            lines.append(f"  {text:<58}not run")
            continue
        found, factor = tested.difference, 100 if claim.score == "f1" else 1
        wins = f"better in {found.wins} of {len(found.values)}"
        verdict = "holds" if tested.holds else "does not hold"
        lines.append(f"  {text:<58}{factor * found.mean:>+9.3f}   {wins:<18}p = {found.p_value:.4f}   {verdict}")
    return "\n".join(lines)


def _missing(measured: Mapping[str, Any], inits: Sequence[str]) -> list[str]:
    return [
        f"{ROWS[init].title}: {NOT_RUN} (--{init} FILE)" for init in inits if init in EXTERNAL and init not in measured
    ]


def _gaze_line(gaze: Mapping[str, Any], init: str) -> str:
    return f"{ROWS[init].title:<18}" + "".join(f"{_spread(gaze, init, score).plain():>16}" for _, score in GAZE_SCORES)


def _paper_gaze_line(init: str) -> str:
    label = "  paper" if init not in EXTERNAL else f"  paper, {ROWS[init].title.split()[0]}"
    return f"{label:<18}" + "".join(f"{_paper(ROWS[init].gaze, score, 2):>16}" for _, score in GAZE_SCORES)


def _paper(printed: Printed, score: str, digits: int) -> str:
    if not printed:
        return ""
    mean, deviation = printed[score]
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def _spread(inits: Mapping[str, Any], init: str, score: str) -> Spread:
    return Spread.of(result[score] for result in inits[init])


def _mean(records: Sequence[Mapping[str, float]], name: str) -> str:
    chance = Spread.of(record.get(f"{name}_chance", float("nan")) for record in records).mean
    return f"{Spread.of(record[name] for record in records).mean:.3f} ({chance:.3f})"
