"""The numbers of `KeyPurpose` feed the generators: with others, the same seed gives other weights."""

from usvs.tasks.key_purpose import KeyPurpose


def test_the_numbers_stay():
    assert {purpose.name: int(purpose) for purpose in KeyPurpose} == {
        "ORDER": 0,
        "AUGMENTATION": 1,
        "WEIGHTS": 2,
        "ENCODER": 100,
    }
