"""The reproduction as text: Tables 1, 2 and 3 with the paper's figures, our controls, and each claim's test."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from usvs.evaluation.metrics import Spread
from usvs.evaluation.significance import PairedDifference, paired_difference
from usvs.experiments import paper
from usvs.experiments.evidence_table import TEST

PLANE_SCORES = (("Precision", "precision"), ("Recall", "recall"), ("F1-score", "f1"))
GAZE_SCORES = (("KL (lower)", "kl"), ("NSS", "nss"), ("AUC-Judd", "auc"), ("CC", "cc"), ("SIM", "sim"))
TABLE_1 = ("random", "video", "joint", "imagenet", "sononet", "shuffled")
TABLE_3 = ("baseline", "contrastive", "joint")
FROZEN = ("random", "video", "baseline", "contrastive", "joint", "shuffled", "imagenet", "sononet")
SIGNIFICANT = 0.05
LOWER_IS_BETTER = ("kl",)
NOT_RUN = "not run: no weights given"


class Claim(NamedTuple):
    """One init said to beat another in one score of one reading."""

    reading: str
    score: str
    better: str
    worse: str


def claims() -> list[Claim]:
    """Return what the paper found, and what our controls must show, as pairs to be tested."""
    scores = [("planes", "f1"), *(("gaze", score) for score in ("nss", "cc", "auc", "kl")), ("probe", "f1")]
    chains = (("joint", "video"), ("video", "random"), ("contrastive", "baseline"), ("joint", "contrastive"))
    found = [Claim(*score, *pair) for pair in chains for score in scores]
    controls = [Claim(*score, "joint", "shuffled") for score in scores]
    return found + controls + [Claim("probe", "f1", "joint", "random")]


class Tested(NamedTuple):
    """A claim's test: the difference in the direction of the claim, and whether it holds."""

    difference: PairedDifference
    holds: bool


def check_claim(measured: Mapping[str, Any], claim: Claim) -> Tested | None:
    """Test a claim over the cells both inits share; None where one of them was not run."""
    inits = measured.get(claim.reading, {})
    if claim.better not in inits or claim.worse not in inits:
        return None
    first, second = ([cell[claim.score] for cell in inits[init]] for init in (claim.better, claim.worse))
    if claim.score in LOWER_IS_BETTER:
        first, second = second, first
    difference = paired_difference(first, second)
    return Tested(difference, difference.mean > 0 and difference.p_value < SIGNIFICANT)


def reproduction_text(results: dict[str, Any]) -> str:
    """Return all tables of a ``results.json`` of kind reproduce."""
    measured = results["measured"]
    parts = [_header(results)]
    if measured["planes"]:
        parts += [_table_1(results), _frozen(results)]
    if measured["gaze"]:
        parts += [_table_2(results)]
    parts += [_table_3(measured), _retrieval(results), _claims(measured)]
    return "\n\n".join(part for part in parts if part)


def _header(results: dict[str, Any]) -> str:
    people, seeds = results["patients"], len(results["seeds"])
    folds = results["settings"]["planes"]["folds"]
    apart = "the same people, as allowed" if results["allow_overlap"] else "nobody in both"
    return (
        f"profile {results['settings']['profile']}; mean ± sample standard deviation over {seeds} seeds x {folds} folds"
        f" by patient\n{len(people['pretraining'])} patients pretrained on, {len(people['downstream'])} fine-tuned and"
        f" tested on, {apart}; 'paper': Jiao et al., MICCAI 2020, on its own data, three folds"
    )


def _table_1(results: dict[str, Any]) -> str:
    planes = results["measured"]["planes"]
    lines = ["Table 1. Standard plane detection, fine-tuned, macro means over classes in %"]
    lines.append(f"{'':<18}" + "".join(f"{paper.TITLES[init]:>16}" for init in TABLE_1))
    for title, score in PLANE_SCORES:
        ours = [str(_spread(planes, init, score)) if init in planes else "not run" for init in TABLE_1]
        theirs = [_paper(paper.PLANES, init, score, 1) for init in TABLE_1]
        lines.append(f"{title:<18}" + "".join(f"{cell:>16}" for cell in ours))
        lines.append(f"{'  paper':<18}" + "".join(f"{cell:>16}" for cell in theirs))
    lines += _missing(planes, TABLE_1)
    weights = results["settings"]["planes"]["class_weights"]
    return "\n".join([*lines, f"chance F1 {100 * results['chance_f1']:.1f}; classes weighted in the loss: {weights}"])


def _frozen(results: dict[str, Any]) -> str:
    measured = results["measured"]
    lines = ["Frozen readings of the same inits, macro F1 in %; Rand.Init. with calibrated batch-norm statistics"]
    lines.append(f"{'':<18}{'linear probe':>16}{'kNN':>16}")
    for init in FROZEN:
        if init in measured["probe"]:
            cells = [str(_spread(measured[reading], init, "f1")) for reading in ("probe", "knn")]
            lines.append(f"{paper.TITLES[init]:<18}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join(lines)


def _table_2(results: dict[str, Any]) -> str:
    gaze, uniform = results["measured"]["gaze"], results["uniform_gaze"]
    lines = ["Table 2. Eye-gaze saliency prediction, fine-tuned"]
    lines.append(f"{'':<18}" + "".join(f"{title:>16}" for title, _ in GAZE_SCORES) + f"{'AUC exact':>16}")
    for init in TABLE_1:
        if init in gaze:
            lines.append(_gaze_line(gaze, init) + f"{_spread(gaze, init, 'auc_exact').plain():>16}")
        if init in paper.GAZE:
            lines.append(_paper_gaze_line(init))
    scores = [uniform[score] for _, score in GAZE_SCORES] + [uniform["auc_exact"]]
    lines.append(f"{'(uniform map)':<18}" + "".join(f"{score:>16.2f}" for score in scores))
    lines += _missing(gaze, TABLE_1)
    settings = results["settings"]["gaze"]
    said = (
        f"truth: Gaussians of {settings['sigma_degrees']:g} degrees, {uniform['fixations']:.1f} fixated pixels a frame"
    )
    return "\n".join([*lines, f"{said}, so chance of AUC-Judd is {uniform['auc']:.2f}"])


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
        lines.append(f"{paper.TITLES[init]:<18}" + "".join(f"{cell:>16}" for cell in planes) + gaze)
        theirs = "".join(f"{_paper(paper.PLANES, init, score, 1):>16}" for _, score in PLANE_SCORES)
        lines.append(f"{'  paper':<18}{theirs}{_paper_gaze_line(init)[18:]}")
    return "\n".join(lines)


def _retrieval(results: dict[str, Any]) -> str:
    """What the pretrained models make of people they have not seen: retrieval both ways and losses, beside chance."""
    lines = []
    for row, cells in results["held_out"].items():
        names = ("pool_top1_speech_to_video", "pool_top1_video_to_speech", "correspondence", "order")
        known = [name for name in names if cells and all(name in cell for cell in cells)]
        if known:
            said = [f"{name.removeprefix('pool_top1_').replace('_', ' ')} {_mean(cells, name)}" for name in known]
            lines.append(f"{paper.TITLES[row]:<18}" + ", ".join(said))
    if not lines:
        return ""
    return "\n".join(["Retrieval (share right) and losses on patients not pretrained on; in brackets: chance", *lines])


def _claims(measured: Mapping[str, Any]) -> str:
    lines = [
        f"Claims, each as a paired difference in its own direction; p: {TEST}; holds: positive and p < {SIGNIFICANT}"
    ]
    for claim in claims():
        said = f"{claim.reading} {claim.score}: {paper.TITLES[claim.better]} beats {paper.TITLES[claim.worse]}"
        if claim.reading == "probe" and claim.worse == "random":
            said += " (calibrated)"
        tested = check_claim(measured, claim)
        if tested is None:
            lines.append(f"  {said:<58}not run")
            continue
        found, factor = tested.difference, 100 if claim.score == "f1" else 1
        ahead = f"ahead in {found.wins} of {len(found.values)}"
        verdict = "holds" if tested.holds else "does not hold"
        lines.append(f"  {said:<58}{factor * found.mean:>+9.3f}   {ahead:<18}p = {found.p_value:.4f}   {verdict}")
    return "\n".join(lines)


def _missing(measured: Mapping[str, Any], inits: Sequence[str]) -> list[str]:
    options = {"imagenet": "--imagenet FILE", "sononet": "--sononet FILE"}
    return [
        f"{paper.TITLES[init]}: {NOT_RUN} ({options[init]})"
        for init in inits
        if init in options and init not in measured
    ]


def _gaze_line(gaze: Mapping[str, Any], init: str) -> str:
    cells = "".join(f"{_spread(gaze, init, score).plain():>16}" for _, score in GAZE_SCORES)
    return f"{paper.TITLES[init]:<18}{cells}"


def _paper_gaze_line(init: str) -> str:
    label = "  paper" if init not in ("imagenet", "sononet") else f"  paper, {paper.TITLES[init].split()[0]}"
    return f"{label:<18}" + "".join(f"{_paper(paper.GAZE, init, score, 2):>16}" for _, score in GAZE_SCORES)


def _paper(table: Mapping[str, Mapping[str, tuple[float, float]]], init: str, score: str, digits: int) -> str:
    if init not in table:
        return ""
    mean, deviation = table[init][score]
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def _spread(inits: Mapping[str, Any], init: str, score: str) -> Spread:
    return Spread.of(cell[score] for cell in inits[init])


def _mean(cells: Sequence[Mapping[str, float]], name: str) -> str:
    chance = Spread.of(cell.get(f"{name}_chance", float("nan")) for cell in cells).mean
    return f"{Spread.of(cell[name] for cell in cells).mean:.3f} ({chance:.3f})"
