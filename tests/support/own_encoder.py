"""An encoder of a user, and what storing an encoder and making it again has to give."""

import json

import torch
from torch import Tensor, nn

from usvs.models.encoder import Encoder
from usvs.models.registry import build_encoder, encoder_config


class Own(nn.Module):
    """An encoder of a user: no base class, no registration."""

    num_features = 6

    def __init__(self, in_chans: int = 1, width: int = 6) -> None:
        super().__init__()
        self.num_features = width
        self.conv = nn.Conv2d(in_chans, width, 3, stride=4, padding=1)

    def forward_features(self, images: Tensor) -> Tensor:
        return self.conv(images).relu()


def round_trip(encoder: Encoder) -> Encoder:
    again = build_encoder(json.loads(json.dumps(encoder_config(encoder))))
    again.load_state_dict(encoder.state_dict())
    assert type(again) is type(encoder) and again.pretrained_cfg == encoder.pretrained_cfg
    images = torch.randn(2, encoder.in_chans, 64, 64)
    with torch.no_grad():
        assert torch.equal(again.eval()(images), encoder.eval()(images))
    assert encoder_config(again) == encoder_config(encoder)
    return again
