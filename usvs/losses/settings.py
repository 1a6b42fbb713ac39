"""Settings of the joint objective (Eq. 3) and its terms."""

from typing import Literal

from pydantic import Field

from usvs.config import Settings

Form = Literal["eq2", "ntxent"]


class ObjectiveSettings(Settings):
    """Eq. 3 and its terms; a weight of zero leaves the term out."""

    correspondence_weight: float = Field(1.0, ge=0)  # alpha
    contrastive_weight: float = Field(1.0, ge=0)  # beta
    order_weight: float = Field(1.0, ge=0)  # gamma
    order_fraction: float = Field(1.0, gt=0, le=1)  # ours: of a batch's clips, how many show the order task
    form: Form = "eq2"
    candidates: Literal["all", "speech"] = "all"  # what the sum of Eq. 2 runs over
    temperature: float = Field(1.0, gt=0)
    normalise: bool = False
    margin_floor: float = Field(1.0, gt=0)  # where Eq. 2 is continued by its tangent
    affinity: bool = True  # pairs from high-affinity clips only (section 2.3)
    resample_invalid_pairs: bool = (
        False  # ours: in the place of a clip that makes no pair one that does, so batches stay full
    )
    speech: Literal["own", "shuffled"] = "own"  # shuffled: the control, speech from other scans
