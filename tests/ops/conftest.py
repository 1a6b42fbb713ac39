"""The instruction sets of this machine. Nothing is imported here that needs usvs._C: tests on a device may lack it."""

from collections.abc import Iterator

import pytest

from usvs.ops import build_info


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with the argument `simd` runs with each instruction set that this machine has."""
    if "simd" in metafunc.fixturenames:
        metafunc.parametrize("simd", build_info()["simd_usable"], indirect=True)


@pytest.fixture
def simd(request: pytest.FixtureRequest) -> Iterator[str]:
    """An instruction set, in use."""
    from usvs import _C

    before = build_info()["simd"]
    _C.use_simd(request.param)
    yield request.param
    _C.use_simd(before)
