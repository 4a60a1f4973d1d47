"""Opening, joining, splitting, averaging and simulating labelled responses."""

import lazy_loader

# `ba.stimuli` is this room's submodule: it is looked up here, and imported only then.
__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submodules=["stimuli"])
