"""Stateless random numbers: a counter-based generator and a keyed permutation.

Every draw is a pure function of (key, stream, counter), so any sample of any epoch can be computed directly, in any
order and by any process. Both use one mixing function, the output step of SplitMix64 (G. L. Steele, D. Lea,
C. H. Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014, doi:10.1145/2660193.2660195, with
D. Stafford's "Mix13" constants, as in java.util.SplittableRandom):

    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB
    z =  z ^ (z >> 31)

`counter_bits(key, counter, stream)` is the generator's output number `counter` from the state that (key, stream) hashes
to: mix64(state + (counter + 1) * GOLDEN_GAMMA). It is meant for sampling, not for cryptography.
"""

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from usvs.errors import ConfigError

UInt64Array = npt.NDArray[np.uint64]
Int64Array = npt.NDArray[np.int64]
Float64Array = npt.NDArray[np.float64]

GOLDEN_GAMMA = 0x9E3779B97F4A7C15  # 2**64 divided by the golden ratio, made odd
FEISTEL_ROUNDS = 8
LEAST_BITS = 4  # with halves of one bit some orders would be 20 % too frequent

# one definition for a Python int, which is much faster for a single number, and for an array
Words = TypeVar("Words", int, UInt64Array)

_WORD = (1 << 64) - 1


def mix64(word: Words) -> Words:
    """Return SplitMix64's bijective mix of a word, or of each word of a uint64 array."""
    bits: Any = word
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & _WORD
    mixed: Words = bits ^ (bits >> 31)
    return mixed


def derive_key(*words: int) -> int:
    """Hash integers, for example (seed, epoch), into one 64-bit key; their order matters."""
    state = 0
    for word in words:
        state = mix64(((state + GOLDEN_GAMMA) & _WORD) ^ (word & _WORD))
    return state


def counter_bits(key: int, counter: npt.ArrayLike, stream: int) -> UInt64Array:
    """Return 64 random bits for every counter.

    Args:
        key: from `derive_key`.
        counter: integers >= 0, any shape.
        stream: number of the draw; different streams of a key are independent.

    Returns:
        uint64 array of the counter's shape (at least [1]).
    """
    position = np.atleast_1d(np.asarray(counter)).astype(np.uint64) + np.uint64(1)
    return mix64(position * np.uint64(GOLDEN_GAMMA) + np.uint64(derive_key(key, stream)))


def counter_uniform(key: int, counter: npt.ArrayLike, stream: int) -> Float64Array:
    """Return a uniform number in [0, 1) with 53 random bits for every counter; arguments as of `counter_bits`."""
    return uniform_from_bits(counter_bits(key, counter, stream))


def keyed_bits(keys: UInt64Array, count: int) -> UInt64Array:
    """Return `count` random words [..., count] for every key [...]; each key is a generator of its own."""
    return mix64(keys[..., None] + np.uint64(GOLDEN_GAMMA) * np.arange(1, count + 1, dtype=np.uint64))


def uniform_from_bits(bits: UInt64Array) -> Float64Array:
    """Return the upper 53 bits of each word as a number in [0, 1)."""
    uniform: Float64Array = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return uniform


def counter_below(key: int, counter: npt.ArrayLike, stream: int, limit: npt.ArrayLike) -> Int64Array:
    """Return a uniform integer in [0, limit) for every counter; biased by less than limit / 2**53.

    A limit of 0 gives 0; the caller must handle that case.
    """
    chosen: Int64Array = np.floor(counter_uniform(key, counter, stream) * np.asarray(limit)).astype(np.int64)
    return chosen


def permute(index: npt.ArrayLike, size: int, key: int) -> Int64Array:
    """Return the image of each index under a keyed permutation of range(size), without storing the permutation.

    A Feistel network on b = ceil(log2(size)) bits (at least 4), in halves of floor(b/2) and ceil(b/2) bits, whose round
    function is `mix64` of the other half xor a round key. The network permutes 2**b numbers, so a result may be at or
    above `size`; it is then applied again until it is below ("cycle walking": J. Black, P. Rogaway, "Ciphers with
    arbitrary finite domains", CT-RSA 2002, doi:10.1007/3-540-45760-7_9). Four rounds of random functions make a strong
    pseudorandom permutation (M. Luby, C. Rackoff, SIAM J. Comput. 1988, doi:10.1137/0217022); eight are used, because
    the halves have few bits for small sizes.

    Args:
        index: integers in [0, size), any shape.
        size: of the range that is permuted, 1 .. 2**62.
        key: selects the permutation.

    Returns:
        int64 array of the index's shape (at least [1]).

    Raises:
        ConfigError: for a size or an index out of range.
    """
    indices = np.atleast_1d(np.asarray(index, dtype=np.int64))
    network = _Feistel(size, key)
    if indices.size and not (indices.min() >= 0 and indices.max() < size):
        raise ConfigError(f"permutation index: expected 0 .. {size - 1}, got {indices.min()} .. {indices.max()}")
    value = network(indices.ravel().astype(np.uint64))
    while (outside := np.flatnonzero(value >= np.uint64(size))).size:
        value[outside] = network(value[outside])
    return value.astype(np.int64).reshape(indices.shape)


def permute_one(index: int, size: int, key: int) -> int:
    """Return `permute` of one index, in a few microseconds; arguments and errors as there."""
    network = _Feistel(size, key)
    if not 0 <= index < size:
        raise ConfigError(f"permutation index: expected 0 .. {size - 1}, got {index}")
    value = network(index)
    while value >= size:
        value = network(value)
    return value


class _Feistel:
    """A keyed permutation of range(2**bits), where 2**bits >= size; the network of `permute`."""

    def __init__(self, size: int, key: int) -> None:
        if not 1 <= size <= 1 << 62:
            raise ConfigError(f"permutation size: expected 1 .. 2**62, got {size}")
        bits = max(LEAST_BITS, (size - 1).bit_length())
        self.low_bits = (bits + 1) // 2
        self.low_mask = (1 << self.low_bits) - 1
        self.high_mask = (1 << (bits - self.low_bits)) - 1
        self.round_keys = [derive_key(key, number) for number in range(FEISTEL_ROUNDS)]

    def __call__(self, value: Words) -> Words:
        word: Any = value
        low, high = word & self.low_mask, word >> self.low_bits
        for even_key, odd_key in zip(self.round_keys[::2], self.round_keys[1::2], strict=True):
            high = high ^ (mix64(low ^ even_key) & self.high_mask)
            low = low ^ (mix64(high ^ odd_key) & self.low_mask)
        permuted: Words = (high << self.low_bits) | low
        return permuted
