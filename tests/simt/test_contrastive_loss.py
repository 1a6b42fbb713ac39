"""The CUDA contrastive loss, executed on the CPU, against its equation in float64.

One file because the mutation tests run the file of an entry.
"""

from pathlib import Path

import numpy as np
import pytest

from .emulate import Build, Out, Result, available, build, run, schedules

pytestmark = [
    pytest.mark.compile,
    pytest.mark.skipif(not available(), reason="no C++ compiler here"),
]

FORMS = ("eq2", "ntxent", "logsumexp")
GRADIENTS = ("anchors_grad", "positives_grad", "hard_negatives_grad", "candidates_grad")


def program(kind: Build = Build.PLAIN) -> Path:
    return build(kind, "contrastive_loss")


def to_bfloat16(values: np.ndarray) -> np.ndarray:
    """Round to nearest, ties to even; the bits, as uint16."""
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def widened(values: np.ndarray) -> np.ndarray:
    if values.dtype == np.uint16:
        return (values.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return values.astype(np.float64)


class Case:
    """Inputs of both passes, and what the equation says of them."""

    def __init__(
        self,
        n: int,
        m: int,
        d: int,
        dtype: str = "float32",
        temperature: float = 1.0,
        margin_floor: float = 1.0,
        form: str = "eq2",
        scale: float = 1.7,
        seed: int = 0,
    ):
        random = np.random.default_rng(seed)
        self.n, self.m, self.d, self.dtype = n, m, d, dtype
        self.temperature, self.margin_floor, self.form = temperature, margin_floor, form
        self.v, self.s, self.h, self.c = (
            self.stored(scale * rows / np.linalg.norm(rows, axis=1, keepdims=True))
            for rows in (random.standard_normal((count, d)) for count in (n, n, n, m))
        )
        self.self_index = random.integers(-1, m, n) if m > 1 else np.full(n, -1)
        self.first_value = 0  # where the anchors begin in their buffer
        self.device_temperature: float | None = None  # given in place of the temperature
        self.panel_tiles = 0  # of a panel of weights, if it is not the kernel's own choice
        self.losses_grad = random.uniform(0.5, 1.5, n).astype(np.float32)

    def stored(self, values: np.ndarray) -> np.ndarray:
        return to_bfloat16(values) if self.dtype == "bfloat16" else values.astype(np.float32)

    def expected(self) -> dict[str, np.ndarray]:
        v, s, h, c = map(widened, (self.v, self.s, self.h, self.c))
        has_pairs = self.form != "logsumexp"
        a = has_pairs * (v * s).sum(1) / self.temperature
        margin = a - (v * h).sum(1) / self.temperature
        logits = v @ c.T / self.temperature
        rows = np.flatnonzero(self.self_index >= 0)
        logits[rows, self.self_index[rows]] = -np.inf
        largest = logits.max(1, keepdims=True)
        logsumexp = np.log(np.exp(logits - largest).sum(1)) + largest[:, 0]
        slope, gap = np.zeros(self.n), np.zeros(self.n)
        if self.form == "eq2":
            touching = np.maximum(margin, self.margin_floor)
            slope = 1 / np.expm1(touching)
            gap = np.log(-np.expm1(-touching)) + (margin - touching) * slope
        weight = self.losses_grad.astype(np.float64) / self.temperature
        softmax = weight[:, None] * np.exp(logits - logsumexp[:, None])
        pull, push = -has_pairs * (weight * (1 + slope))[:, None], (weight * slope)[:, None]
        return {
            "losses": logsumexp - a - gap,
            "logsumexp": logsumexp,
            "anchors_grad": softmax @ c + pull * s + push * h,
            "positives_grad": pull * v,
            "hard_negatives_grad": push * v,
            "candidates_grad": softmax.T @ v,
            "terms": softmax @ np.abs(c) + np.abs(pull * s) + np.abs(push * h),
        }

    def numbers(self) -> dict:
        names = ("rows", "columns", "width", "temperature", "margin_floor", "form")
        values = (self.n, self.m, self.d, self.temperature, self.margin_floor, FORMS.index(self.form))
        return dict(zip(names, values, strict=True))

    def inputs(self) -> dict:
        names = ("positives", "hard_negatives", "candidates", "self_index")
        first_value = np.zeros(self.first_value, self.v.dtype)
        anchors = np.concatenate([first_value, self.v.ravel()])
        arrays = dict(zip(names, (self.s, self.h, self.c, self.self_index), strict=True))
        numbers = {"first_value": self.first_value, **self.numbers()}
        if self.device_temperature is not None:
            numbers |= {"temperature": 0.0, "device_temperature": np.array([self.device_temperature], np.float32)}
        return {"anchors": anchors, **arrays, **numbers}

    def forward(self, kind: Build = Build.PLAIN, under: list[str] | None = None, **options) -> Result:
        workspace = Out((workspace_bytes(self.n, self.m, self.d, self.dtype, kind)[0],), np.uint8)
        outputs = {"losses": Out((self.n,)), "logsumexp": Out((self.n,)), "workspace": workspace}
        return run(program(kind), f"forward_{self.dtype}", {**self.inputs(), **outputs}, under or ["2:1"], **options)

    def backward(
        self, logsumexp: np.ndarray, kind: Build = Build.PLAIN, under: list[str] | None = None, **options
    ) -> Result:
        workspace = Out((workspace_bytes(self.n, self.m, self.d, self.dtype, kind)[1],), np.uint8)
        like = dict(zip(GRADIENTS, (self.v, self.s, self.h, self.c), strict=True))
        written = GRADIENTS if self.form != "logsumexp" else (GRADIENTS[0], GRADIENTS[3])  # others are null there
        outputs = {name: Out(like[name].shape, like[name].dtype) for name in written}
        given = {"logsumexp": logsumexp, "losses_grad": self.losses_grad}
        arguments = {**self.inputs(), **given, **outputs, "workspace": workspace}
        entry = f"backward_{self.dtype}"
        if self.panel_tiles:
            entry, arguments["panel_tiles"] = f"panels_{self.dtype}", self.panel_tiles
            query = {**self.inputs(), "panel_tiles": self.panel_tiles, "bytes": Out((1,), np.int64)}
            arguments["workspace"] = Out((int(run(program(kind), entry, query)["bytes"][0]),), np.uint8)
        return run(program(kind), entry, arguments, under or ["2:1"], **options)

    def check(self, kind: Build = Build.PLAIN, under: list[str] | None = None) -> None:
        """Both passes, each against the equation."""
        expected, forward = self.expected(), self.forward(kind, under)
        # A loss is a difference of logits, of which float32 has no more than so many digits.
        places = 2 * np.spacing(np.abs(expected["logsumexp"]).max(initial=0).astype(np.float32))
        for name in ("losses", "logsumexp"):
            np.testing.assert_allclose(
                forward[name], expected[name], rtol=1e-5, atol=max(1e-5, float(places)), err_msg=name
            )
        backward = self.backward(forward["logsumexp"], kind, under)
        for name in (name for name in GRADIENTS if name in backward):
            error = np.abs(widened(backward[name]) - expected[name])
            allowed = 1e-5 * np.abs(expected[name]).max(initial=1e-6)
            if self.dtype == "bfloat16":  # rounded once at the end; before that, 16 bits of every weight count
                allowed = 2**-8 * np.abs(expected[name]) + 2**-17 * expected["terms"].max(initial=0)
            assert (error <= allowed).all(), f"{name}: {(error - allowed).max()} too much"
        runs = len(under or [0])
        assert forward.counts["launches"] == runs, "one launch"
        if not self.panel_tiles:  # two launches for the panel of either side, where the width has several slices
            assert backward.counts["launches"] == runs * (1 if self.d <= 128 else 4)


def workspace_bytes(n: int, m: int, d: int, dtype: str, kind: Build = Build.PLAIN) -> tuple[int, int]:
    numbers = {"rows": n, "columns": m, "width": d, "bytes": Out((2,), np.int64)}
    forward, backward = run(program(kind), f"workspace_bytes_{dtype}", numbers)["bytes"]
    return int(forward), int(backward)


# n, M, d: one of each; ragged against tiles of 32 anchors (up to 64 of them) or 128, 32 to 128 candidates and 16 or 32
# columns of the width; candidates that several blocks share; a width of two slices, and rows that are whole 16-byte
# vectors or are not.
SHAPES = [
    (1, 4, 1),
    (1, 1, 3),
    (5, 40, 127),
    (130, 70, 40),
    (17, 300, 24),
    (64, 192, 128),
    (9, 150, 132),
    (3, 300, 257),
    (66, 40, 33),
    (70, 300, 24),
]
SETTINGS = [(1.0, 1.0, "eq2"), (0.07, 0.5, "eq2"), (0.3, 1.0, "ntxent")]
KINDS = pytest.mark.parametrize("kind", [Build.PLAIN, Build.MEMORY, Build.RACE], ids=str)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_equals_the_equation(dtype: str, shape: tuple[int, int, int], settings: tuple[float, float, str]):
    Case(*shape, dtype, *settings).check()


# Tiles of 128 x 192 and 64 of the width, in rows that are whole 16-byte vectors: an odd number of anchors, with and
# without a second tile of either side, and a width that ends inside a stage.
@pytest.mark.parametrize("shape", [(67, 200, 200), (131, 190, 512), (5, 389, 1024)], ids=str)
def test_wide_bfloat16_embeddings(shape: tuple[int, int, int]):
    Case(*shape, "bfloat16", 0.3).check()


def test_no_row_of_a_wide_tile_takes_the_largest_logit_of_another():
    case = Case(64, 70, 136, "bfloat16")
    case.v[:16:2] = case.stored(300 * widened(case.v[:16:2]))  # with these as the largest, others have a sum of 0
    np.testing.assert_allclose(case.forward()["logsumexp"], case.expected()["logsumexp"], rtol=1e-5)


# n, M, d, tiles of a panel: all rows and some columns; some rows and some columns; one tile of either side; rows that
# are not aligned, of three slices, whose sums are carried from panel to panel.
PANELS = [(300, 200, 20, 12), (1100, 40, 4, 9), (20, 290, 8, 1), (33, 260, 260, 3)]


@pytest.mark.parametrize("shape", PANELS, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_panels_of_weights(dtype: str, shape: tuple[int, int, int, int]):
    case = Case(*shape[:3], dtype, 0.4)
    case.panel_tiles = shape[3]
    case.check()


@pytest.mark.parametrize("kind", [Build.MEMORY, Build.RACE], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_sanitizers_find_nothing_in_panels_of_weights(dtype: str, kind: Build):
    case = Case(20, 140, 132, dtype)
    case.panel_tiles = 2
    case.check(kind)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("panel_tiles", [0, 2])
def test_panels_without_anchors_give_candidates_gradients_of_zero(dtype: str, panel_tiles: int):
    case = Case(0, 140, 132, dtype)  # a panel without columns: nothing is loaded, and sums of nothing are written
    case.panel_tiles = panel_tiles
    backward = case.backward(np.zeros(0, np.float32), under=["2:1", "2:2", "2:3", "2:4"])
    assert (widened(backward["candidates_grad"]) == 0).all()


def test_panels_of_weights_are_bounded_at_every_size():
    for rows, columns in ((32, 10**6), (10**6, 10**6), (65_536, 65_536), (10**6, 3 * 10**6)):
        assert workspace_bytes(rows, columns, 1024, "bfloat16")[1] <= 600 * 2**20


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("form", FORMS)
def test_a_temperature_in_device_memory(form: str, dtype: str):
    case = Case(9, 150, 132, dtype, 0.25, 1.0, form)
    case.device_temperature = 0.25
    case.check()


@pytest.mark.parametrize("temperature", [0.0, -1.0, np.nan, np.inf])
def test_a_temperature_out_of_range_in_device_memory_gives_nan(temperature: float):
    case = Case(9, 64, 8)
    case.device_temperature, case.self_index[:] = temperature, -1  # no masked logits, whose -inf would change its sign
    forward = case.forward()
    assert np.isnan(forward["losses"]).all()
    assert np.isnan(case.backward(forward["logsumexp"])["anchors_grad"]).all()


@KINDS
@pytest.mark.parametrize("shape", [(37, 150, 20), (5, 1, 9), (140, 40, 132)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_logsumexp_alone(dtype: str, shape: tuple[int, int, int], kind: Build):
    case = Case(*shape, dtype, 0.5, form="logsumexp")
    case.check(kind)
    forward = case.forward(kind)
    case.s[:], case.h[:] = case.stored(np.array(np.nan)), case.stored(np.array(np.nan))  # are not read
    for name in ("losses", "logsumexp"):
        np.testing.assert_array_equal(case.forward(kind)[name], forward[name])
    assert np.isfinite(widened(case.backward(forward["logsumexp"], kind)["anchors_grad"])).all()


def test_the_logsumexp_of_no_candidates_is_minus_infinity():
    case = Case(3, 1, 8, form="logsumexp")
    case.self_index[:] = (0, -1, 0)
    assert np.isneginf(case.forward()["losses"]).tolist() == [True, False, True]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_four_tiles_of_either_side_leave_no_gap_in_the_workspace(dtype: str):
    Case(385, 385, 4, dtype).check()


@pytest.mark.parametrize("rows", [20, 70])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_same_bits_under_twenty_schedules(dtype: str, rows: int):
    # Blocks in any order: whichever comes last adds up what the others left.
    Case(rows, 300, 24, dtype).check(under=schedules(20))


@pytest.mark.parametrize(
    "shape",
    [(37, 2100, 4), *(pytest.param(each, marks=pytest.mark.slow) for each in ((65, 2100, 4), (2100, 5, 4)))],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_more_splits_than_one_block_joins(dtype: str, shape: tuple[int, int, int]):
    Case(*shape, dtype).check(under=["2:1", "2:2"])


@pytest.mark.parametrize("shape", [(3, 270, 20), (6, 33, 7), (2, 40, 136), (130, 33, 4)], ids=str)
@pytest.mark.parametrize("kind", [Build.MEMORY, Build.RACE], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_sanitizers_find_nothing(dtype: str, kind: Build, shape: tuple[int, int, int]):
    Case(*shape, dtype).check(kind)


@pytest.mark.parametrize("form", FORMS[:2])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_large_similarities_and_margins_of_either_sign(dtype: str, form: str):
    case = Case(40, 120, 16, dtype, form=form, scale=10.0)
    case.s[:10], case.h[:10] = case.v[:10], case.stored(-widened(case.v[:10]))  # a = 100, b = -100
    case.s[10:20], case.h[10:20] = case.stored(-widened(case.v[10:20])), case.v[10:20]  # a = -100, b = 100
    case.h[20:30] = case.s[20:30]  # margin 0
    case.c[:40], case.c[60:100] = case.v, case.v  # duplicates, one of which may be the anchor itself
    case.self_index[:] = np.arange(40)
    case.check()


def test_float32_keeps_its_digits_at_similarities_of_eighty():
    # Tensor cores round towards zero: a sum left to them over the whole width would be off by more.
    case = Case(24, 500, 128, scale=80**0.5)
    case.c[:24], case.c[24:48], case.self_index[:] = case.v, case.s, np.arange(24)
    case.s[:8] = case.v[:8]  # a = 80
    case.c[100:120] = case.v[:20] * np.float32(0.999)  # nearly as near as the anchor itself
    case.check()


@pytest.mark.parametrize("d", [128, pytest.param(1024, marks=pytest.mark.slow)])
def test_bfloat16_keeps_its_digits_at_similarities_of_eighty(d: int):
    # A tensor core adds the products of a slice, and rounds towards zero: of 128 terms eight times, each by up to
    # 2^-17 at the size of the sum. The logits of one row are rounded alike, so that their weights hardly change.
    case = Case(24, 500, d, "bfloat16", scale=80**0.5)
    case.c[:24], case.self_index[:] = case.v, -1
    forward, expected = case.forward(), case.expected()
    assert np.abs(forward["logsumexp"] - expected["logsumexp"]).max() <= 4e-5
    case.check()


@pytest.mark.slow
def test_a_wide_embedding_keeps_the_digits_of_its_logits():
    # Sums of 128 partial products, each of which would be rounded at the size of the whole: an error of 3e-5. A float32
    # number near 80 is rounded by up to 4e-6.
    case = Case(24, 500, 1024, scale=80**0.5)
    case.c[:24], case.self_index[:] = case.v, -1
    error = case.forward()["logsumexp"] - case.expected()["logsumexp"]
    assert np.abs(error).max() <= 2e-5


@pytest.mark.parametrize("logit", [-0.31, -3.7])
def test_a_sum_of_a_million_terms_is_exact_to_a_few_ulp(logit: float):
    # Plain float32 sums of so many equal terms are rounded in one direction: an error of 1e-4.
    tiles = 31_250
    numbers = {"tiles": tiles, "logit": logit, "sum": Out((1,))}
    sum_of_terms = run(program(), "sum_of_equal_logits", numbers)["sum"].astype(np.float64)
    expected = 1 + (8 * tiles - 1) * np.exp(np.float64(np.float32(logit)))  # one logit is 0, the largest
    np.testing.assert_allclose(sum_of_terms, expected, rtol=5e-7)


def test_the_sums_of_many_blocks_are_added_in_float64():
    # 128 blocks. One logit of the first one is 0, all others are -9.703125, which tensor cores multiply exactly: equal
    # sums are added, and float32 would round them in one direction.
    case = Case(1, 16_384, 1, form="logsumexp")
    case.v[:], case.c[:], case.self_index[:] = 1, -9.703125, -1
    case.c[0] = 0
    expected = np.log1p(16_383 * np.exp(-9.703125))
    np.testing.assert_allclose(case.forward()["logsumexp"], expected, rtol=0, atol=1e-6)


def test_small_sums_beside_a_large_one_keep_their_digits():
    # The first of 128 blocks has a logit of 0, and the others what adds 1e-3 to its exponential: a float32 sum near 1
    # is rounded by up to 6e-8 at each addition.
    case = Case(1, 16_384, 1, form="logsumexp")
    case.v[:], case.c[:], case.self_index[:] = 1, -16.6015625, -1
    case.c[:128] = -200
    case.c[0] = 0
    expected = np.log1p(16_256 * np.exp(-16.6015625))
    np.testing.assert_allclose(case.forward()["logsumexp"], expected, rtol=1e-6)


def test_the_terms_of_a_pair_are_rounded_once():
    # Equal products, whose float32 sums are rounded in one direction; all logits are 0.
    case = Case(64, 5, 1000, temperature=0.7)
    rows = np.linspace(0.2, 0.3, 64, dtype=np.float32)[:, None]
    case.v[:], case.s[:], case.h[:], case.c[:], case.self_index[:] = rows, rows, -rows, 0, -1
    losses, expected = case.forward()["losses"], case.expected()["losses"]
    np.testing.assert_allclose(losses, expected, rtol=2**-24)
    case.form = "ntxent"  # without g(m), which is 0 here unless the hard negative is wrong
    np.testing.assert_allclose(case.forward()["losses"], case.expected()["losses"], rtol=2**-24)


def test_a_margin_that_is_a_small_difference_keeps_its_digits():
    # At margins near 0 the slope of the tangent counts: 1 / (e^floor - 1) with a small floor.
    case = Case(64, 5, 1000, margin_floor=1e-3)
    rows = np.linspace(0.2, 0.3, 64, dtype=np.float32)[:, None]
    case.v[:], case.s[:], case.h[:], case.c[:], case.self_index[:] = rows, rows, rows * np.float32(0.99999), 0, -1
    losses, expected = case.forward()["losses"], case.expected()["losses"]
    np.testing.assert_allclose(losses, expected, rtol=1e-6)


@pytest.mark.parametrize("loud", [0, 290])
def test_one_candidate_far_above_all_others(loud: int):
    case = Case(2, 300, 1, form="ntxent")
    case.v[:], case.s[:], case.h[:], case.losses_grad[:] = 100, 0, 0, 1
    case.c[:, 0] = np.linspace(-1, 1, 300)
    case.c[loud], case.self_index[:] = 100, (-1, 4)
    forward = case.forward()
    np.testing.assert_array_equal(forward["losses"], [10_000, 10_000])
    gradient = case.backward(forward["logsumexp"])["candidates_grad"]
    assert gradient[loud] == 200
    assert np.count_nonzero(gradient) == 1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_embeddings_may_begin_anywhere(dtype: str):
    case = Case(7, 40, 16, dtype)
    aligned = case.forward()
    case.first_value = 1
    shifted = case.forward()
    np.testing.assert_array_equal(aligned["losses"], shifted["losses"])
    case.check()


def test_what_no_number_answers_is_nan():
    # A GPU cannot look at indices before it starts, so what the CPU refuses comes out as NaN here.
    case = Case(5, 40, 8)
    case.self_index[:] = (0, 40, -2, 2**40, 39)
    assert np.isnan(case.forward()["losses"]).tolist() == [False, True, True, True, False]
    alone = Case(2, 1, 8)
    alone.self_index[:] = (0, -1)
    assert np.isnan(alone.forward()["losses"]).tolist() == [True, False]
    none = Case(2, 0, 136, "bfloat16")
    assert np.isnan(none.forward(under=["2:1", "2:2", "2:3", "2:4"])["losses"]).all()


def backward_without(case: Case, rows: np.ndarray, kind: Build) -> tuple[Result, Result]:
    """The gradients of a case, and those of its other rows when these rows have no gradient of their losses."""
    forward = case.forward(kind)
    assert np.flatnonzero(~np.isfinite(forward["losses"])).tolist() == rows.tolist()
    gradients = case.backward(forward["logsumexp"], kind)
    clean = Case(case.n, case.m, case.d, case.dtype)
    clean.self_index = case.self_index.copy()
    clean.self_index[rows], clean.losses_grad[rows] = -1, 0
    return gradients, clean.backward(clean.forward(kind)["logsumexp"], kind)


@KINDS
@pytest.mark.parametrize("shape", [(40, 150, 9), (37, 40, 136), (140, 70, 32)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_row_without_a_loss_changes_no_gradient_but_its_own(dtype: str, shape: tuple[int, int, int], kind: Build):
    case, rows = Case(*shape, dtype), np.array([3, 17, 33, 36])
    case.self_index[rows] = shape[1], -2, 2**40, -1
    case.v[36, [0, shape[2] // 2, -1]] = case.stored(np.array(np.nan))
    got, expected = backward_without(case, rows, kind)
    others = np.setdiff1d(np.arange(case.n), rows)
    for name in GRADIENTS[:3]:
        assert np.isnan(widened(got[name])[rows]).all(), name
        np.testing.assert_array_equal(got[name][others], expected[name][others], err_msg=name)
    np.testing.assert_array_equal(got["candidates_grad"], expected["candidates_grad"])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_bad_embedding_is_not_hidden(dtype: str, bad: float):
    case = Case(4, 40, 8, dtype)
    case.self_index[:] = (0, 1, 37, 2)
    case.c[37, 2] = case.stored(np.array(bad))
    losses = case.forward()["losses"]
    assert np.isfinite(losses[2]), "the bad candidate is the anchor itself and does not count"
    assert not np.isfinite(losses[[0, 1, 3]]).all()
    case = Case(4, 40, 8, dtype)
    case.v[1, 0] = case.stored(np.array(bad))
    assert np.isfinite(case.forward()["losses"]).tolist() == [True, False, True, True]


def test_no_anchors():
    case = Case(0, 5, 3)
    assert case.forward().counts["launches"] == 0
    gradients = case.backward(np.zeros(0, np.float32))
    np.testing.assert_array_equal(gradients["candidates_grad"], np.zeros((5, 3)))


@pytest.mark.parametrize(("dtype", "m"), [("float32", 1_000_000), ("bfloat16", 3_000_000)])
def test_a_million_anchors_fit_in_two_and_a_half_gigabytes_beside_the_inputs(dtype: str, m: int):
    n, d, value_bytes = 1_000_000, 128, 4 if dtype == "float32" else 2
    forward, backward = workspace_bytes(n, m, d, dtype)
    gradients, rows = (3 * n + m) * d * value_bytes, 3 * 4 * n  # losses, logsumexp, and the losses' gradient
    assert forward + backward + gradients + rows <= 2.5e9


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_workspace_is_bounded_and_gone_where_rows_fill_a_device(dtype: str):
    sizes = [2**k for k in range(23)]
    most = max(max(workspace_bytes(n, n, 128, dtype)) for n in sizes[::3])
    assert most <= 200 * 2**20
    assert workspace_bytes(2**20, 2**20, 128, dtype) == (0, 0)
