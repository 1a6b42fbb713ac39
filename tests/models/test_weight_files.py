import numpy as np
import pytest
import torch

from usvs.errors import DataError
from usvs.models.weight_files import read_weights


class Payload:
    def __reduce__(self):
        return print, ("code of a file was run",)


def test_code_in_a_file_is_never_executed(tmp_path, capsys):
    torch.save({"weight": torch.zeros(1), "more": Payload()}, tmp_path / "evil.pth")
    with pytest.raises(DataError, match="more than tensors and is not executed"):
        read_weights(tmp_path / "evil.pth")
    np.savez(tmp_path / "evil.npz", np.array([Payload()], dtype=object))
    with pytest.raises(DataError, match=r"cannot be read as \.npz"):
        read_weights(tmp_path / "evil.npz")
    assert "was run" not in capsys.readouterr().out


@pytest.mark.parametrize("suffix", [".pth", ".npz", ".safetensors"])
def test_a_damaged_file_is_one_error(tmp_path, suffix):
    file = tmp_path / f"broken{suffix}"
    file.write_bytes(b"\x80\x02 this is nothing")
    with pytest.raises(DataError, match=f"broken{suffix}"):
        read_weights(file)
    file.write_bytes(b"")
    with pytest.raises(DataError, match=f"broken{suffix}"):
        read_weights(file)


def test_files_without_weights_raise(tmp_path):
    with pytest.raises(DataError, match="there is no such file"):
        read_weights(tmp_path / "none.pth")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match=r"expected one of \.safetensors, \.npz.*got '\.txt'"):
        read_weights(tmp_path / "notes.txt")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(DataError, match="expected tensors, got none in 1 entries"):
        read_weights(tmp_path / "empty.pth")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(DataError, match="expected a dictionary of tensors, got a list"):
        read_weights(tmp_path / "list.pth")
