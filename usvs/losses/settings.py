"""Settings of the joint objective (Eq. 3) and its terms."""

from typing import Literal

from pydantic import Field

from usvs.config import Settings

Form = Literal["eq2", "ntxent"]


class ObjectiveSettings(Settings):
    """Eq. 3 and its terms; a term of weight 0 is not computed."""

    correspondence_weight: float = Field(1.0, ge=0)  # alpha
    contrastive_weight: float = Field(1.0, ge=0)  # beta
    order_weight: float = Field(1.0, ge=0)  # gamma
    order_fraction: float = Field(1.0, gt=0, le=1)  # fraction of a batch's clips with the order task; not in the paper
    form: Form = "eq2"  # ntxent: without the hard negative's term in the numerator
    candidates: Literal["all", "speech"] = "all"  # which embeddings the sum of Eq. 2 runs over
    temperature: float = Field(1.0, gt=0)  # divides similarities; 1 in the paper
    normalise: bool = False  # scale embeddings to length 1 first; not in the paper
    margin_floor: float = Field(1.0, gt=0)  # margin below which Eq. 2 is replaced by its tangent
    affinity: bool = True  # pairs from high-affinity clips only (section 2.3)
    # Replace clips without a valid pair by clips with one, so that every batch has all its pairs; not in the paper.
    resample_invalid_pairs: bool = False
    # Not in the paper: clips of one scan beside each other in a batch, whose candidates so share patient and speaker.
    scan_run_clips: int = Field(1, ge=1)
    # Not in the paper: weight of a contrast within each stream, of a clip's two frames (and of its two pieces of
    # speech) against other clips. It makes features of content, without which weak pairs are not learnt from at all.
    stream_weight: float = Field(0.0, ge=0)
    # Not in the paper: also from speech to frames, and every frame with every piece of its clip.
    symmetric: bool = False
    speech: Literal["own", "shuffled"] = "own"  # shuffled: speech from other scans, a control
