"""What the random keys of fine-tuning are for."""

from enum import IntEnum


class KeyPurpose(IntEnum):
    """What a key is derived for, see `usvs.utils.permutation.derive_key`; the numbers decide the weights: keep them."""

    ORDER = 0  # of the rows of an epoch
    AUGMENTATION = 1
    WEIGHTS = 2  # of a module's own layers
    ENCODER = 100  # weights of an untrained encoder
