"""The public names: one list, few, lazy, and each with the words that a user needs."""

import ast
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

STUB = Path(__file__).parents[2] / "brainalign" / "__init__.pyi"
NAMES = [alias.asname or alias.name for node in ast.parse(STUB.read_text(encoding="utf-8")).body for alias in node.names]
MAX_NAMES = 69
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
    """Return the object behind a public name."""
    return getattr(importlib.import_module("brainalign"), name)


def sections(doc: str) -> dict[str, str]:
    """Return the sections of a numpydoc docstring by title."""
    parts = re.split(r"^(\w[\w ]*)\n-{3,}\n", inspect.cleandoc(doc), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def documented(parameters: str) -> set[str]:
    """Return the names that a Parameters section explains: ``a, b : int``, ``**coords``."""
    heads = re.findall(r"^(\*{0,2}\w[\w, *]*?)\s*(?::.*)?$", parameters, flags=re.MULTILINE)
    return {name.strip().lstrip("*") for head in heads for name in head.split(",")}


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
    missing = wanted - documented(text.get("Parameters", ""))
    if missing:
        found.append(f"{where} does not explain {sorted(missing)} under Parameters")
    if inspect.isfunction(obj) and signature.return_annotation not in (None, "None") and not {"Returns", "Yields"} & set(text):
        found.append(f"{where} has no Returns")
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
    ]


def test_public_names_are_few_and_listed_once():
    assert len(NAMES) <= MAX_NAMES
    assert sorted(set(NAMES)) == sorted(NAMES)


def test_the_package_offers_just_these_names():
    import brainalign

    assert sorted(brainalign.__all__) == sorted(NAMES)
    assert set(NAMES) <= set(dir(brainalign))


@pytest.mark.parametrize("name", NAMES)
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
        """
        return x

    assert len(faults(verb, "verb")) == 3
    verb.__doc__ = None
    assert faults(verb, "verb")[0].endswith("verb has no docstring")
