"""The public names: one list, few, lazy, and each with the words that a user needs."""

import ast
import builtins
import importlib
import inspect
import operator
import re
import subprocess
import sys
from pathlib import Path

import pytest

STUB = Path(__file__).parents[2] / "brainalign" / "__init__.pyi"
NAMES = [alias.asname or alias.name for node in ast.parse(STUB.read_text(encoding="utf-8")).body for alias in node.names]
MAX_NAMES = 69
ROOMS = ("adapters", "core", "geometry", "models", "neurons", "reports", "scores")
RARER = [f"{room}.{name}" for room in ROOMS for name in importlib.import_module(f"brainalign.{room}").__all__]
HEAVY = {
    "torch", "matplotlib", "mne", "nilearn", "nibabel", "xarray", "pandas", "zarr", "dask", "scipy", "sklearn", "transformers",
    "h5py", "PIL", "tqdm",
}  # fmt: skip


def loaded_by(statement: str) -> set[str]:
    """Return the heavy packages that a fresh interpreter has loaded after a statement."""
    code = f"import sys\n{statement}\nprint(*(name.split('.')[0] for name in list(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split()) & HEAVY


def public(name: str) -> object:
    """Return the object behind a public name, or behind one of a room: ``geometry.geodesic``."""
    return operator.attrgetter(name)(importlib.import_module("brainalign"))


def sections(doc: str) -> dict[str, str]:
    """Return the sections of a numpydoc docstring by title."""
    parts = re.split(r"^(\w[\w ]*)\n-{3,}\n", inspect.cleandoc(doc), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def documented(parameters: str) -> set[str]:
    """Return the names that a Parameters section explains: ``a, b : int``, ``**coords``."""
    heads = re.findall(r"^(\*{0,2}\w[\w, *]*?)\s*(?::.*)?$", parameters, flags=re.MULTILINE)
    return {name.strip().lstrip("*") for head in heads for name in head.split(",")}


def no_errors(text: dict[str, str]) -> list[str]:
    """Return the names under Raises and Warns that no error or warning has."""
    errors = importlib.import_module("brainalign").errors
    heads = re.findall(r"^(\w[\w, ]*)$", f"{text.get('Raises', '')}\n{text.get('Warns', '')}", flags=re.MULTILINE)
    named = [name.strip() for head in heads for name in head.split(",")]
    return [name for name in named if not (hasattr(errors, name) or hasattr(builtins, name) or name == "NotFittedError")]


def faults(obj: object, name: str) -> list[str]:
    """Return what is missing from a docstring, as messages with file and line."""
    where = f"{inspect.getsourcefile(obj)}:{inspect.getsourcelines(obj)[1] or 1} {name}"
    doc = inspect.getdoc(obj)
    if not doc:
        return [f"{where} has no docstring"]
    if inspect.ismodule(obj):
        return []
    found, text = [], sections(doc)
    signature = inspect.signature(obj)
    wanted = {parameter for parameter in signature.parameters if parameter != "self"}
    missing = wanted - documented(text.get("Parameters", text.get("Attributes", "")))  # of a dataclass they are the same
    if missing:
        found.append(f"{where} does not explain {sorted(missing)} under Parameters")
    if inspect.isfunction(obj) and signature.return_annotation not in (None, "None") and not {"Returns", "Yields"} & set(text):
        found.append(f"{where} has no Returns")
    if wrong := no_errors(text):
        found.append(f"{where} raises or warns of {wrong}, which are no errors")
    if ">>> " not in text.get("Examples", ""):
        found.append(f"{where} has no Examples that run")
    return found


def method_faults(cls: type) -> list[str]:
    """Return the public methods of a class that have no docstring, as messages with file and line."""
    own = [(name, obj) for name, obj in inspect.getmembers(cls, inspect.isfunction) if obj.__module__.startswith("brainalign")]
    return [
        f"{inspect.getsourcefile(obj)}:{inspect.getsourcelines(obj)[1]} {cls.__name__}.{name} has no docstring"
        for name, obj in own
        if not name.startswith("_") and not inspect.getdoc(obj)
    ] + [
        f"{cls.__name__}.{name} raises or warns of {wrong}, which are no errors"
        for name, obj in own
        if not name.startswith("_") and (wrong := no_errors(sections(inspect.getdoc(obj) or "")))
    ]


def test_public_names_are_few_and_listed_once():
    assert len(NAMES) <= MAX_NAMES
    assert sorted(set(NAMES)) == sorted(NAMES)


def test_the_package_offers_just_these_names():
    import brainalign

    assert sorted(brainalign.__all__) == sorted(NAMES)
    assert set(NAMES) <= set(dir(brainalign))


@pytest.mark.parametrize("name", [*NAMES, *RARER])
def test_public_name_is_documented(name):
    obj = public(name)
    found = faults(obj, name) + (method_faults(obj) if inspect.isclass(obj) else [])
    assert not found, "\n" + "\n".join(found)


def test_import_is_light():
    assert loaded_by("import brainalign; dir(brainalign)") == set()


def test_errors_and_version_are_light():
    assert loaded_by("import brainalign; brainalign.__version__") == set()
    assert loaded_by("import brainalign; brainalign.errors.SchemaError") <= {"xarray", "pandas", "dask", "tqdm", "scipy"}


def test_data_verbs_load_no_network_or_plotting_library():
    verbs = "responses, brainalign.validate, brainalign.align, brainalign.split, brainalign.average_repeats"
    assert not loaded_by(f"import brainalign; brainalign.{verbs}") & {
        "torch",
        "matplotlib",
        "mne",
        "nilearn",
        "nibabel",
        "transformers",
    }


def test_a_mistyped_name_is_an_error_and_loads_nothing():
    import brainalign

    with pytest.raises(AttributeError, match="evalute"):
        brainalign.evalute  # noqa: B018


def test_a_poor_docstring_is_caught():
    def verb(x: int, *, by: str) -> int:
        """Do it.

        Parameters
        ----------
        x : int

        Raises
        ------
        ParameterError
        MistypedError
        """
        return x

    assert len(faults(verb, "verb")) == 4
    verb.__doc__ = None
    assert faults(verb, "verb")[0].endswith("verb has no docstring")
