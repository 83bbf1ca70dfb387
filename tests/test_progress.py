import sys

import pytest

from mmqsa.progress import notice, progress_bar


@pytest.mark.parametrize("terminal, interval", [(True, 0.1), (False, 15.0)])
def test_a_bar_is_quiet_in_a_log_file(monkeypatch, capsys, terminal, interval):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    bar = progress_bar(range(3), desc="work")
    assert bar.mininterval == interval
    for index in bar:
        notice(f"at {index}")
    captured = capsys.readouterr()
    assert captured.out == "" and "work" in captured.err and "at 2\n" in captured.err
