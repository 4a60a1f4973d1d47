import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from brainalign.core import registry
from brainalign.core.errors import UnknownNameError
from brainalign.core.registry import Registry


@pytest.fixture
def plugins(monkeypatch):
    """Install entry points of one group for the length of a test."""

    def install(*points: tuple[str, str]):
        found = [EntryPoint(name, value, "brainalign.examples") for name, value in points]
        monkeypatch.setattr(registry, "entry_points", lambda group: [point for point in found if point.group == group])

    return install


def test_a_builtin_and_a_plugin_are_found_by_name(plugins):
    plugins(("sqrt", "math:sqrt"))
    names = Registry("brainalign.examples", {"join": "os.path:join"})
    assert names.names() == ["join", "sqrt"]
    assert names.get("sqrt")(9) == 3
    assert names.get("join")("a", "b").startswith("a")


def test_an_object_passes_through():
    assert Registry("brainalign.examples", {}).get(len) is len


def test_an_unknown_name_lists_the_known_and_suggests():
    with pytest.raises(UnknownNameError) as caught:
        Registry("brainalign.examples", {"pearson": "math:sqrt", "cosine": "math:cos"}).get("persn")
    message = str(caught.value)
    assert "no entry is named 'persn'. Known: cosine, pearson." in message
    assert message.endswith("Did you mean 'pearson'?")


def test_a_name_claimed_twice_says_by_whom(plugins):
    plugins(("pearson", "theirs.metrics:pearson"))
    with pytest.raises(UnknownNameError, match=r"'pearson' is claimed by 'ours:pearson' and by 'theirs.metrics:pearson'"):
        Registry("brainalign.examples", {"pearson": "ours:pearson"}).names()


def test_a_plugin_that_repeats_a_builtin_is_no_conflict(plugins):
    plugins(("sqrt", "math:sqrt"))
    assert Registry("brainalign.examples", {"sqrt": "math:sqrt"}).get("sqrt")(4) == 2


def test_a_broken_plugin_breaks_only_its_own_name(plugins):
    plugins(("broken", "no_such_package:thing"))
    names = Registry("brainalign.examples", {"sqrt": "math:sqrt"})
    assert names.get("sqrt")(4) == 2
    with pytest.raises(ModuleNotFoundError):
        names.get("broken")


def test_nothing_is_imported_before_it_is_asked_for():
    code = (
        "import sys; from brainalign.core.registry import Registry\n"
        "r = Registry('brainalign.examples', {'t': 'colorsys:rgb_to_hsv'}); r.names()\n"
        "before = 'colorsys' in sys.modules; r.get('t'); print(before, 'colorsys' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "True"]
