"""The emulator itself: what it computes, and that it refuses what a GPU would punish or, worse, let pass."""

import numpy as np
import pytest

from tests.simt.emulate import Argument, Build, EmulationError, InOut, Out, Result, available, build, run, schedules

pytestmark = [
    pytest.mark.compile,
    pytest.mark.skipif(not available(), reason="no C++ compiler here: kernels are not emulated"),
]
FLOATS, INTEGERS = {"out": Out((64,))}, {"out": Out((64,), np.int32)}


def emulate(entry: str, arguments: dict[str, Argument], kind: Build = Build.PLAIN, count: int = 8) -> Result:
    return run(build(kind, "selftest"), entry, arguments, schedules(count))


def found(entry: str, arguments: dict[str, Argument], kind: Build = Build.PLAIN) -> EmulationError:
    with pytest.raises(EmulationError) as caught:
        emulate(entry, arguments, kind)
    return caught.value


def bf16(values: np.ndarray) -> np.ndarray:
    return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)


@pytest.fixture(scope="module")
def small_integers() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(1)
    return generator.integers(-9, 9, (16, 16)), generator.integers(-9, 9, (8, 16))


@pytest.mark.parametrize("kind", Build)
def test_shuffles_and_counts(kind: Build):
    lanes = np.arange(32)
    halves = emulate("shuffle_halves", {"out": Out((32,), np.int32)}, kind)["out"]
    assert (halves == np.where(lanes < 16, lanes ^ 3, 20)).all()
    sums = emulate("prefix_sums", dict(INTEGERS), kind)["out"]
    assert (sums == np.arange(64).reshape(2, 32).cumsum(1).ravel() + 22_000).all()
    votes = emulate("votes_and_atomics", {"out": InOut(np.zeros(3, np.int32))}, kind)["out"]
    assert votes.tolist() == [192, 192, 7]


def test_tensor_cores(small_integers: tuple[np.ndarray, np.ndarray]):
    a, b = small_integers  # exact in every format
    out = {"out": Out((16, 8))}
    assert (emulate("multiply_bf16", {"a": bf16(a), "b": bf16(b), **out})["out"] == a @ b.T).all()
    assert (emulate("multiply_bf16_transposed", {"a": bf16(a), "b": bf16(b.T), **out})["out"] == a @ b.T).all()
    a, b = a[:, :8].astype(np.float32), b[:, :8].astype(np.float32)
    assert (emulate("multiply_tf32", {"a": a, "b": b, **out})["out"] == a @ b.T).all()
    rounded = emulate("multiply_tf32", {"a": a + np.float32(2**-9), "b": b, **out})["out"]
    assert np.abs(rounded - (a + 2**-9) @ b.T).max() < 0.1
    assert (rounded != (a + np.float32(2**-9)) @ b.T).any(), "tf32 keeps 10 bits, and the emulator no more"


@pytest.mark.parametrize("kind", Build)
def test_async_copies_arrive_when_waited_for(kind: Build):
    values = np.arange(128, dtype=np.float32)
    out = emulate("copies", {"in": values, "out": Out((128,)), "wait": 1}, kind)["out"]
    assert (out == values[::-1]).all()
    if kind is Build.PLAIN:
        assert "cp.async copies are under way" in str(found("copies", {"in": values, "out": Out((128,)), "wait": 0}))


@pytest.mark.parametrize("kind", Build)
def test_the_last_block_may_add_up(kind: Build):
    parts, done = InOut(np.zeros(8, np.float32)), InOut(np.zeros(1, np.int32))
    assert emulate("last_block", {"parts": parts, "done": done, "out": Out((1,))}, kind)["out"] == 36


def test_parts_announced_before_all_have_written_them_are_a_race():
    parts, done = InOut(np.zeros(192, np.float32)), InOut(np.zeros(1, np.int32))
    arguments: dict[str, Argument] = {"parts": parts, "done": done, "out": Out((64,)), "barrier": 1}
    assert (emulate("last_block_of_many", arguments, Build.RACE)["out"] == 3).all()
    assert found("last_block_of_many", {**arguments, "barrier": 0}, Build.RACE).detector == "race"


def test_what_was_not_written_is_nan():
    out = emulate("reads_unwritten", dict(FLOATS))["out"]
    assert (out[:32] == 1).all() and np.isnan(out[32:]).all()


def test_a_missing_barrier_shows_as_nan_or_as_a_race():
    for entry, shape in (("reverses", 64), ("reverses_lanes", 32)):
        arguments: dict[str, Argument] = {"out": Out((shape,)), "barrier": 1}
        for kind in Build:
            assert (emulate(entry, arguments, kind)["out"] == np.arange(shape)[::-1]).all()
        arguments["barrier"] = 0
        assert np.isnan(run(build(Build.PLAIN, "selftest"), entry, arguments, ["1:0"])["out"]).any()
        assert found(entry, arguments, Build.RACE).detector == "race"


def test_a_missing_barrier_before_the_next_round_is_a_race_under_every_schedule():
    expected = 4 * ((np.arange(64) + 33) % 64) + 600
    for kind in Build:
        assert (emulate("two_rounds", {**FLOATS, "barrier": 1}, kind)["out"] == expected).all()
    for schedule in schedules(6):
        with pytest.raises(EmulationError, match="data race"):
            run(build(Build.RACE, "selftest"), "two_rounds", {**FLOATS, "barrier": 0}, [schedule])


def test_a_race_between_blocks():
    assert found("blocks_race", {"out": InOut(np.zeros(1, np.float32))}, Build.RACE).detector == "race"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("half_a_barrier", "DIVERGENCE: a thread exits while others wait at __syncthreads|after threads .* exited"),
        ("barrier_after_exit", "DIVERGENCE"),
        ("two_barriers", "DIVERGENCE: threads meet at different __syncthreads"),
        ("half_a_shuffle", "names a lane that has exited|DEADLOCK"),
        ("lane_not_named", "by a lane that its mask does not name|DEADLOCK"),
        ("mixed_operations", "different warp operations"),
        ("too_many_threads", "a block of 1 ... 1024 threads"),
        ("no_blocks", "a grid of 1 ..."),
    ],
)
def test_what_must_be_refused(entry: str, message: str):
    error = found(entry, dict(INTEGERS))
    assert error.detector == "emulator"
    with pytest.raises(EmulationError, match=message):
        raise error


def test_a_refusal_names_threads_and_lines():
    text = str(found("barrier_after_exit", dict(INTEGERS)))
    assert "selftest.cpp:" in text and "block (0, 0, 0)" in text and "thread(s) exited: " in text


def test_dynamic_arrays_lie_inside_what_was_asked_for_and_apart():
    assert (emulate("dynamic_array", {"out": Out((32,)), "offset": 128, "count": 32})["out"] == 1).all()
    for offset, count, message in ((128, 33, "ends at byte 260 of the 256"), (64, 32, "overlap"), (132, 8, "16")):
        assert message in str(found("dynamic_array", {"out": Out((32,)), "offset": offset, "count": count}))


def test_accesses_out_of_bounds():
    inside = {"index": 31, "in": np.ones(32, np.float32)}
    for kind in (Build.PLAIN, Build.MEMORY):
        emulate("writes_at", {"out": Out((32,)), **inside}, kind)
    for index in (32, -1):
        assert found("writes_at", {"out": Out((32,)), "index": index}).detector == "guard"
        for entry in ("writes_at", "reads_at", "shared_at"):
            error = found(entry, {"out": Out((32,)), **inside, "index": index}, Build.MEMORY)
            assert error.detector == "memory" and "selftest.cpp:" in str(error)


def test_a_misaligned_vector():
    arguments: dict[str, Argument] = {"in": np.ones(8, np.float32), "out": Out((1,))}
    assert "misaligned" in str(found("misaligned_vector", arguments, Build.MEMORY))


def test_a_result_that_depends_on_the_order():
    arguments: dict[str, Argument] = {"out": Out((32,)), "turn": InOut(np.zeros(1, np.int32))}
    assert found("order_shows", arguments).detector == "schedules"


def test_an_input_that_is_written_to():
    assert found("changes_input", {"in": np.zeros(1, np.float32), "out": Out((1,))}).detector == "input changed"
