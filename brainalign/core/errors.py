"""The error tree: one base class, one class per kind of mistake.

Every message says what was wrong (with the value), what was expected and how to mend it.
"""

from __future__ import annotations

import importlib
from types import ModuleType


class BrainAlignError(Exception):
    """Base of every error that brainalign raises on purpose."""


class ParameterError(BrainAlignError, ValueError):
    """An argument has the wrong type or an impossible value."""


class SchemaError(BrainAlignError, ValueError):
    """An array is not a valid responses array or stimulus table."""


class AlignmentError(BrainAlignError, ValueError):
    """Two sides do not share what they are to be joined on."""


class SplitError(BrainAlignError, ValueError):
    """A split would leak between training and test presentations, or has an empty side."""


class FormatError(BrainAlignError, ValueError):
    """A file is damaged, or does not hold what its format promises."""


class StoreError(BrainAlignError, ValueError):
    """A study store is incomplete, locked, of a newer schema, or holds no such item."""


class CapabilityError(BrainAlignError, TypeError):
    """An object cannot do what was asked of it (no gradients, no grid, not affine)."""


class UnsupportedModuleError(CapabilityError):
    """A module of a network cannot be read, altered or given a rule of relevance; the message names it."""


class UnknownNameError(BrainAlignError, LookupError):
    """A name is not among those that are registered."""


class OptionalDependencyError(BrainAlignError, ImportError):
    """A package of an optional extra is not installed."""


class LeakWarning(UserWarning):
    """Something was fitted or chosen outside the training folds, or what is tested is part of what was trained on."""


class TransductiveWarning(LeakWarning):
    """Predictions were rescaled by statistics of the rows that are predicted, as single rows could not be."""


class NullWarning(UserWarning):
    """A null does not suit these data: its p-values come out too small, or too large."""


class UndefinedDrawsWarning(UserWarning):
    """Some redrawn samples have no score; intervals and p-values rest on the others."""


class WeakMappingWarning(UserWarning):
    """A fitted mapping predicts some neuroids no better than chance, or nobody knows: what explains it need not explain them."""


class DegeneratePredictionWarning(UserWarning):
    """Some predictions are NaN or constant; they tell nothing, and count as chance."""


class DegenerateNeuroidWarning(UserWarning):
    """Some neuroids are constant or NaN; their scores are NaN and named by ``status``."""


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional package, or say which extra brings it.

    Parameters
    ----------
    module : str
        Dotted name of the module to import.
    extra : str
        Extra of ``pyproject.toml`` that installs it.
    purpose : str
        What it is needed for, as the start of a sentence ("reading '.fif'").

    Returns
    -------
    module

    Raises
    ------
    OptionalDependencyError
        The package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise OptionalDependencyError(
            f"{purpose} needs {package}, which could not be imported ({error}). "
            f'Install it with `pip install "brainalign[{extra}]"`.'
        ) from error
