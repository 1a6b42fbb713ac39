"""Settings of the joint objective (Eq. 3) and its terms."""

from typing import Literal

from pydantic import Field

from usvs.config import Settings

Form = Literal["eq2", "ntxent"]


class ObjectiveSettings(Settings):
    """Eq. 3 and its terms; a term of weight 0 is not computed."""

    correspondence_weight: float = Field(1.0, ge=0)
    """Alpha: weight of L_cls."""
    contrastive_weight: float = Field(1.0, ge=0)
    """Beta: weight of L_cont."""
    order_weight: float = Field(1.0, ge=0)
    """Gamma: weight of L_ord."""
    order_fraction: float = Field(1.0, gt=0, le=1)
    """Fraction of a batch's clips with the order task; not in the paper."""
    form: Form = "eq2"
    """ntxent: Eq. 2 without the hard negative's term in the numerator."""
    candidates: Literal["all", "speech"] = "all"
    """Which embeddings the sum of Eq. 2 runs over."""
    temperature: float = Field(1.0, gt=0)
    """Divides similarities; 1 in the paper."""
    normalise: bool = False
    """Scale embeddings to length 1 first; not in the paper."""
    margin_floor: float = Field(1.0, gt=0)
    """Margin below which Eq. 2 is replaced by its tangent."""
    affinity: bool = True
    """Pairs from high-affinity clips only (section 2.3)."""
    resample_invalid_pairs: bool = False
    """Replace clips without a valid pair by clips with one, so that every batch has all its pairs; not in the paper."""
    scan_run_clips: int = Field(1, ge=1)
    """So many clips of one scan are beside each other in a batch, whose candidates then share patient and speaker; not
    in the paper."""
    stream_weight: float = Field(0.0, ge=0)
    """Weight of a contrast within each stream, of a clip's two frames (and of its two pieces of speech) against other
    clips; not in the paper. It makes features of content, without which weak pairs are not learnt from at all."""
    symmetric: bool = False
    """Also from speech to frames, and every frame with every piece of its clip; not in the paper."""
    speech: Literal["own", "shuffled"] = "own"
    """shuffled: speech from other scans, a control."""
