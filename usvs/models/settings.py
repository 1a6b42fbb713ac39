"""Settings of the encoders, the two streams and their heads."""

from typing import Literal

from pydantic import Field

from usvs.config import Settings


class EncoderSettings(Settings):
    """A dilated SE-ResNeXt; the defaults are SE-ResNeXt-50 32x4d (section 2.4)."""

    layers: tuple[int, int, int, int] = (3, 4, 6, 3)
    cardinality: int = Field(32, ge=1)
    base_width: int = Field(4, ge=1)
    stem_width: int = Field(64, ge=1)
    output_stride: Literal[8, 16, 32] = 16
    se_ratio: float = Field(1 / 16, gt=0)


class ModelSettings(Settings):
    """The two streams and their heads (Fig. 2 right)."""

    video: EncoderSettings = EncoderSettings()
    speech: EncoderSettings = EncoderSettings()
    frame_pixels: int = Field(224, ge=32)
    projection_hidden: int = Field(512, ge=1)
    projection_width: int = Field(128, ge=1)
    projection_batch_norm: bool = False  # ours: without it the embeddings of untrained streams all point one way
    shared_projection: bool = True  # the paper writes one h(.) for both modalities
    correspondence_hidden: int = Field(512, ge=0)  # ours: a linear decision on a concatenation cannot learn who belongs
    correspondence_batch_norm: bool = False  # ours: before that layer; helped a toy, untried on the phantom
    order_hidden: int = Field(1024, ge=1)  # OPN's fc6
    order_pair_hidden: int = Field(512, ge=1)  # OPN's fc7
    order_grid: int = Field(4, ge=1)  # ours: fc6 sees a grid of this side, since order is about where things are
    order_dropout: float = Field(0.5, ge=0, lt=1)


QUICK_ENCODER = EncoderSettings(
    layers=(1, 1, 1, 1), cardinality=2, base_width=32, stem_width=8, output_stride=16, se_ratio=1 / 8
)


QUICK_MODEL = ModelSettings(
    video=QUICK_ENCODER,
    speech=QUICK_ENCODER.model_copy(update={"output_stride": 32}),  # its features are means: no need of a fine map
    frame_pixels=64,
    projection_hidden=256,
    projection_width=64,
    projection_batch_norm=True,
    shared_projection=False,
    correspondence_hidden=128,
    order_hidden=128,
    order_pair_hidden=128,
    order_dropout=0.0,
)
