"""Small NWB files in the layout that pynwb writes: tables with ids, VectorData, VectorIndex and references."""

import h5py
import numpy as np
import pytest


class NWB:
    """Writes what is asked for into one file; anything may be missing."""

    def __init__(self, path, version="2.7.0"):
        self.path, self.file = path, h5py.File(path, "w")
        self.file.attrs["nwb_version"] = version
        for name in ("acquisition", "analysis", "general", "processing", "stimulus/presentation", "stimulus/templates"):
            self.file.create_group(name)

    def text(self, path, value):
        self.file[path] = value
        return self

    def table(self, path, columns, ids=None, kind="DynamicTable"):
        """Write columns; a list of lists is ragged, one more level of lists is doubly ragged."""
        group = self.file.create_group(path)
        n_rows = len(next(iter(columns.values())))
        group.attrs.update({"neurodata_type": kind, "colnames": np.array(list(columns), dtype=h5py.string_dtype())})
        group["id"] = np.arange(n_rows) if ids is None else np.asarray(ids)
        for name, values in columns.items():
            self._column(group, name, values)
        return self

    def _column(self, group, name, values):
        ends = []
        while isinstance(values, list) and values and isinstance(values[0], (list, np.ndarray)):
            ends.append(np.cumsum([len(value) for value in values]))
            inner = [item for value in values for item in value]
            values = np.concatenate([np.atleast_1d(v) for v in values]) if isinstance(values[0], np.ndarray) else inner
        array = np.asarray(values)
        group[name] = array.astype(h5py.string_dtype()) if array.dtype.kind in "UO" else array
        group[name].attrs["neurodata_type"] = "VectorData"
        for end in reversed(ends):
            target, name = group[name], f"{name}_index"
            group[name] = end.astype(np.uint8 if end.max(initial=0) < 256 else np.uint32)  # as small as pynwb makes it
            group[name].attrs.update({"neurodata_type": "VectorIndex", "target": target.ref})

    def done(self):
        self.file.close()
        return self.path


@pytest.fixture
def nwb(tmp_path):
    """Return a function that starts an NWB file."""
    return lambda name="session.nwb", **options: NWB(tmp_path / name, **options)
