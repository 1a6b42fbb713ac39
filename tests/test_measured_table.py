"""The table of stored measurements is what the stored files say."""

from benchmarks import measured


def test_the_table_is_that_of_the_stored_files():
    text = measured.README.read_text()
    assert text.endswith(measured.section()), "run: python -m benchmarks.measured --write"
    assert text.count(measured.TITLE) == 1
