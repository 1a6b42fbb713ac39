"""The model card (``README.md``) of an export: how to load it, what it was trained on, measured figures, limits."""

import json
from collections.abc import Sequence

from usvs import __version__
from usvs.inference.export.figures import RunFacts
from usvs.inference.export.source import ExportSource
from usvs.training.run_folder import PATIENTS

TITLES = {
    "encoder": "Ultrasound encoder",
    "classification": "Ultrasound frame classifier",
    "saliency": "Gaze saliency on ultrasound",
}
METHOD = (
    "Method: J. Jiao, Y. Cai, M. Alsharid, L. Drukker, A. T. Papageorghiou, J. A. Noble, *Self-supervised Contrastive"
    " Video-Speech Representation Learning for Ultrasound*, MICCAI 2020, doi:10.1007/978-3-030-59716-0_51."
)
LIMITS = (
    "It is for research and no medical device; it has no clinical validation.",
    "It was trained on the patients above alone. Other scanners, presets, anatomies and populations were not measured.",
    "Frames of another preparation (not cropped to the ultrasound sector, other gray levels, drawn calipers) give other"
    " outputs.",
    "The weights were computed from recordings of persons and may retain traces of them: treat them as the archive's"
    " owner says.",
)
CLASSIFIER_LIMIT = "Every frame gets one of the classes above, also a frame that shows none of them."


def model_card(
    source: ExportSource, facts: RunFacts, title: str, loading: Sequence[str], difference: str, has_patients: bool
) -> str:
    """Return the text of a card.

    Args:
        source: what is exported.
        facts: of its run.
        title: of the format.
        loading: lines of Python that load the export and call it `network`, run in the folder of the card.
        difference: a sentence on how the exported network compares with the original.
        has_patients: the folder has the list of patients.
    """
    cfg, output = source.input, source.output
    channels, side, _ = cfg["input_size"]
    lines = ["---", "library_name: usvs", "tags: [ultrasound, medical-imaging]", "---", ""]
    lines += [f"# {TITLES[source.kind]}", "", f"Exported by usvs {__version__} as {title}.", ""]
    lines += ["## Loading", "", "In this folder:", "", "```python", *loading, "```", "", difference, ""]
    lines += [
        "## Input and output",
        "",
        f"- `images`: float32 [n, {channels}, {side}, {side}], any n. Made of square gray frames inside of the"
        f" ultrasound sector: {cfg['input']}.",
        f"- crop_fraction {cfg['crop_fraction']}, mean {_numbers(cfg['mean'])}, std {_numbers(cfg['std'])};"
        f" `usvs.models.preprocessing.preprocess_images(images, {side}, {cfg['crop_fraction']})` does it.",
        f"- `{output['name']}`: float32 {json.dumps(output['shape']).replace(chr(34), '')}, {output['meaning']}.",
    ]
    if source.classes:
        lines += ["", "| number | class |", "|---:|---|"]
        lines += [f"| {number} | {_cell(name)} |" for number, name in enumerate(source.classes)]
    lines += ["", "## Data", "", *facts.data]
    if has_patients:
        lines += [
            "",
            f"`{PATIENTS}` lists them as keyed hashes, which only their store can translate: with it, usvs refuses to"
            " test on them. Remove the file where nobody else has the store.",
        ]
    if facts.figures:
        lines += ["", "## Measured", "", facts.measured, "", _row(facts.columns), "|---|---:|---:|"]
        lines += [_row(row) for row in facts.figures]
    else:
        lines += ["", "## Measured", "", "Nothing: the files of a measurement are not beside the weights."]
    limits = (*LIMITS, *([CLASSIFIER_LIMIT] if source.classes else []))
    lines += ["", "## Limits", "", *(f"- {limit}" for limit in limits)]
    if facts.settings:
        lines += ["", "## Settings", "", "| setting | value |", "|---|---|"]
        lines += [f"| {name} | {_cell(json.dumps(value))} |" for name, value in facts.settings.items()]
    if facts.made_with:
        lines += ["", "## Made with", "", *(f"- {name}: {value}" for name, value in facts.made_with.items())]
    return "\n".join([*lines, "", METHOD, ""])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
