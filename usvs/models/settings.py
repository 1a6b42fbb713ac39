"""Settings of the encoders, the two streams and their heads, and the small network of the quick profile."""

from typing import Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from usvs.config import Settings

FRAME_PIXELS = 224  # side of a network's input, the paper names none


class EncoderSettings(Settings):
    """A dilated SE-ResNeXt; the defaults are SE-ResNeXt-50 32x4d (section 2.4)."""

    in_chans: int = Field(1, ge=1)
    """Channels of the input; gray frames are repeated over them."""
    layers: tuple[int, int, int, int] = (3, 4, 6, 3)
    """Number of blocks of each of the four stages."""
    cardinality: int = Field(32, ge=1)
    """Groups of the 3 x 3 convolutions."""
    base_width: int = Field(4, ge=1)
    """Channels per group in a stage of 64 planes."""
    stem_width: int = Field(64, ge=1)
    """Channels of the first layer."""
    output_stride: Literal[8, 16, 32] = 16
    """Side of the input over side of the feature map."""
    se_ratio: float = Field(1 / 16, gt=0)
    """Squeezed channels over channels, of squeeze-and-excitation."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if min(self.layers) < 1:
            raise ValueError(f"expected at least 1 block in every stage of layers, got {self.layers}")
        if self.stem_width * self.base_width < 64:
            raise ValueError(
                f"expected stem_width x base_width of at least 64, got {self.stem_width} x {self.base_width}: the first"
                " stage would have no channels"
            )
        return self


class ModelSettings(Settings):
    """The two streams and their heads (Fig. 2 right)."""

    video: EncoderSettings = EncoderSettings()
    """Encoder of the video stream."""
    speech: EncoderSettings = EncoderSettings()
    """Encoder of the speech stream."""
    frame_pixels: int = Field(FRAME_PIXELS, ge=32, le=4096)
    """Side of the network's input, in pixels; the paper names none."""
    projection_hidden: int = Field(512, ge=1)
    """Width of the hidden layer of the projection h."""
    projection_width: int = Field(128, ge=1)
    """Width of the embeddings."""
    projection_batch_norm: bool = False
    """Batch norm at the end of the projection; not in the paper: without it the embeddings of untrained streams are
    nearly parallel."""
    projection_grid: int = Field(1, ge=1)
    """The projection of the video stream gets the means of a grid of this side and not one mean, since what is seen
    depends on where structures are; not in the paper."""
    shared_projection: bool = True
    """One projection h for both streams, as the paper writes it."""
    correspondence_hidden: int = Field(512, ge=0)
    """Width of the hidden layer of the correspondence classifier, 0: none; not in the paper: a linear classifier of a
    concatenation cannot learn which frame and speech belong together."""
    correspondence_batch_norm: bool = False
    """Batch norm before that layer; not in the paper, not tried on the phantom."""
    order_hidden: int = Field(1024, ge=1)
    """Width of OPN's layer fc6, of one frame."""
    order_pair_hidden: int = Field(512, ge=1)
    """Width of OPN's layer fc7, of two frames."""
    order_grid: int = Field(4, ge=1)
    """OPN's layer fc6 gets a grid of this side and not the mean, since order depends on where structures are; not in
    the paper."""
    order_dropout: float = Field(0.5, ge=0, lt=1)
    """Fraction of dropped values in the order head."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.shared_projection and self.projection_grid > 1:
            raise ValueError(
                f"expected projection_grid 1 with one projection for both streams, got {self.projection_grid}: set"
                " shared_projection=false"
            )
        return self


QUICK_ENCODER = EncoderSettings(
    layers=(1, 1, 1, 1), cardinality=2, base_width=32, stem_width=8, output_stride=16, se_ratio=1 / 8
)


QUICK_MODEL = ModelSettings(
    video=QUICK_ENCODER,
    speech=QUICK_ENCODER.model_copy(update={"output_stride": 32}),  # only the mean of its feature map is used
    frame_pixels=64,
    projection_hidden=256,
    projection_width=64,
    projection_batch_norm=True,
    projection_grid=2,
    shared_projection=False,
    correspondence_hidden=128,
    order_hidden=128,
    order_pair_hidden=128,
    order_dropout=0.0,
)
