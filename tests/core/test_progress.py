import io
import sys

import pytest

from brainalign.core import progress as module
from brainalign.core.progress import progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def written(monkeypatch, stream, progress, **options):
    monkeypatch.setattr(sys, "stderr", stream)
    assert list(progress_bar(range(4), desc="counting", progress=progress, **options)) == [0, 1, 2, 3]
    return stream.getvalue()


@pytest.mark.parametrize(("progress", "seen"), [(True, True), (None, False), (False, False)])
def test_without_a_terminal_only_what_is_asked_for_is_seen(monkeypatch, progress, seen):
    monkeypatch.setattr(module, "DELAY_S", 1e-9)
    assert ("4/4" in written(monkeypatch, io.StringIO(), progress, mininterval=0)) == seen


@pytest.mark.parametrize(("progress", "seen"), [(True, True), (None, True), (False, False)])
def test_on_a_terminal_long_work_is_seen_unasked(monkeypatch, progress, seen):
    monkeypatch.setattr(module, "DELAY_S", 1e-9)
    assert ("4/4" in written(monkeypatch, Terminal(), progress, mininterval=0)) == seen


def test_short_work_is_seen_only_if_asked_for(monkeypatch):
    assert written(monkeypatch, Terminal(), None) == ""
    assert "0/4" in written(monkeypatch, Terminal(), True)


def test_a_bar_without_an_iterable_is_moved_by_hand(capsys):
    with progress_bar(progress=True, desc="saving", total=10) as bar:
        bar.update(10)
    assert "10/10" in capsys.readouterr().err
