import errno

import pytest

from mmqsa.atomic import whole_file, write_text


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "new/table.csv"
    write_text(path, "first")
    with pytest.raises(KeyboardInterrupt), whole_file(path) as temporary:
        assert temporary.parent == path.parent and temporary.suffix == ".csv"
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "first" and list(path.parent.iterdir()) == [path]
    write_text(path, "second")
    assert path.read_text() == "second" and list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("letter", ["a", "é", "🙂"])
def test_a_name_may_be_as_long_as_the_system_takes(tmp_path, letter):
    path = tmp_path / (letter * (250 // len(letter.encode())) + ".png")
    write_text(path, "whole")
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_of_the_system_names_the_file(tmp_path):
    with pytest.raises(OSError) as error, whole_file(tmp_path / "a") as temporary:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert error.value.filename == str(tmp_path / "a") and not list(tmp_path.iterdir())
