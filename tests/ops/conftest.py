"""The instruction sets of this machine."""

from collections.abc import Iterator

import pytest
import torch  # noqa: F401  (loads the libraries that usvs._C is linked with)

from usvs import _C
from usvs.ops import build_info


@pytest.fixture(params=build_info()["simd_usable"])
def simd(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set that this machine has, in use."""
    before = build_info()["simd"]
    _C.use_simd(request.param)
    yield request.param
    _C.use_simd(before)
