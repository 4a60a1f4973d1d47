import inspect

import pytest

from brainalign.core import errors
from brainalign.core.errors import BrainAlignError, OptionalDependencyError, require

TREE = [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, BrainAlignError)]


def test_one_base_and_at_least_the_kinds_of_mistake_of_the_design():
    names = {cls.__name__ for cls in TREE}
    assert {"SchemaError", "AlignmentError", "ParameterError", "OptionalDependencyError", "SplitError"} <= names


@pytest.mark.parametrize("cls", [cls for cls in TREE if cls is not BrainAlignError])
def test_each_error_is_also_the_builtin_that_callers_expect(cls):
    assert issubclass(cls, (ValueError, TypeError, LookupError, ImportError))
    assert inspect.getdoc(cls)


def test_warnings_are_user_warnings():
    assert issubclass(errors.LeakWarning, UserWarning)
    assert issubclass(errors.DegenerateNeuroidWarning, UserWarning)


def test_require_returns_the_module():
    import json.decoder

    assert require("json.decoder", extra="dev", purpose="reading") is json.decoder


def test_require_names_the_purpose_the_package_and_the_extra():
    with pytest.raises(OptionalDependencyError) as caught:
        require("no_such_package_of_ours.io", extra="meeg", purpose="reading '.fif'")
    message = str(caught.value)
    assert message.startswith("reading '.fif' needs no_such_package_of_ours")
    assert 'pip install "brainalign[meeg]"' in message
    assert isinstance(caught.value, ImportError)
