"""Names of BIDS files: their parts, the files that have them, and the sidecars that hold for each."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from brainalign.adapters.files import reading
from brainalign.core.errors import FormatError, ParameterError
from brainalign.core.parameters import did_you_mean, preview

#: Keys in the order in which BIDS writes them.
ENTITIES = (
    "sub", "ses", "sample", "task", "tracksys", "acq", "nuc", "voi", "ce", "trc", "stain", "rec", "dir", "run", "mod", "echo", "flip",
    "inv", "mt", "part", "proc", "hemi", "space", "split", "recording", "chunk", "seg", "res", "den", "label", "desc",
)  # fmt: skip
NONE = "none"  # asks for names without the entity
_LABEL = re.compile(r"[A-Za-z0-9+]+")
_ENTITY = re.compile(r"([a-zA-Z]+)-([A-Za-z0-9+]+)")

Wanted = Mapping[str, str | Sequence[str]]


@dataclass(frozen=True)
class BidsFile:
    """A file whose name follows BIDS.

    Attributes
    ----------
    path : Path
    entities : dict of str to str
    suffix : str
        ``bold``, ``events`` ...
    extension : str
        From the first dot on.
    """

    path: Path
    entities: dict[str, str]
    suffix: str
    extension: str


def parse(path: str | Path) -> BidsFile:
    """Take the name of a file apart.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    BidsFile

    Examples
    --------
    >>> parse("sub-01_ses-meg_task-faces_run-02_events.tsv").entities
    {'sub': '01', 'ses': 'meg', 'task': 'faces', 'run': '02'}
    """
    file = Path(path)
    stem, dot, extension = file.name.partition(".")
    *parts, last = stem.split("_")
    pairs = [match.groups() for part in parts if (match := _ENTITY.fullmatch(part))]
    return BidsFile(file, dict(pairs), last, dot + extension)


def label_of(key: str, value: Any) -> str:
    """Return a label without the key in front of it.

    Parameters
    ----------
    key : str
    value : str
        ``"01"`` or ``"sub-01"``.

    Returns
    -------
    str

    Raises
    ------
    ParameterError
        It is no label: it could be part of a path.
    """
    label = str(value).removeprefix(f"{key}-")
    if not _LABEL.fullmatch(label):
        raise ParameterError(f"BIDS label {key}={value!r} is not made of letters and digits. Expected one such as '01'.")
    return label


def check_entities(entities: Mapping[str, Any], *, owner: str) -> dict[str, Any]:
    """Return those entities that were given, with plain labels.

    Parameters
    ----------
    entities : mapping of str to str, sequence of str or None
    owner : str
        The function that was called, for the message.

    Returns
    -------
    dict of str to str or list of str

    Raises
    ------
    ParameterError
        BIDS knows no such key, or a value is no label.
    """
    for key in entities:
        if key not in ENTITIES:
            raise ParameterError(
                f"{owner} got an unknown option {key!r}.{did_you_mean(key, ENTITIES)} Expected a key of BIDS names, such as acq or echo."
            )
    return {
        key: label_of(key, value) if isinstance(value, (str, int)) else [label_of(key, item) for item in value]
        for key, value in entities.items()
        if value is not None
    }


def find(root: Path, wanted: Wanted, *, suffix: str | Sequence[str], extensions: Sequence[str], what: str) -> list[BidsFile]:
    """Return the files of one person that have the wanted entities; otherwise say which values there are.

    Parameters
    ----------
    root : Path
        Folder of the data set.
    wanted : mapping of str to str or sequence of str
        Labels without their key; ``"none"`` where the name must not have it. Without ``sub``, the only person.
    suffix : str or sequence of str
    extensions : sequence of str
    what : str
        What they are, for messages.

    Returns
    -------
    list of BidsFile
        By name; some may be links without content, see :func:`refuse_absent`.

    Raises
    ------
    FormatError
        No such folder, person or label.
    """
    if not root.is_dir():
        raise FormatError(f"there is no folder {str(root)!r}. Expected the root of a BIDS data set: check the path.")
    person = _person(root, wanted.get("sub"))
    suffixes = (suffix,) if isinstance(suffix, str) else tuple(suffix)
    named = [parse(path) for path in sorted((root / person).rglob("*_*.*"))]
    found = [
        file
        for file in named
        if file.suffix in suffixes and file.extension in extensions and file.entities.get("sub") == person[4:]
    ]
    for key, value in wanted.items():
        values = [value] if isinstance(value, str) else value
        for one in values if key != "sub" else ():
            if not any(_has(file, key, one) for file in found):
                there = sorted({f"{key}-{file.entities[key]}" for file in found if key in file.entities})
                raise FormatError(
                    f"{person} in {str(root)!r} has no {what} of {key}-{one}. It has {preview(there, 12) or f'none with {key!r} in their names'}."
                    f"{did_you_mean(f'{key}-{one}', there)} Name one of them."
                )
        found = found if key == "sub" else [file for file in found if any(_has(file, key, one) for one in values)]
    return found


def refuse_absent(files: Sequence[BidsFile]) -> None:
    """Refuse names without content, which are links of DataLad to what was not downloaded: never a part of what was asked for.

    Parameters
    ----------
    files : sequence of BidsFile

    Raises
    ------
    FormatError
        Some are not there.
    """
    absent = [file.path for file in files if not file.path.is_file()]
    if absent:
        raise FormatError(
            f"{str(absent[0])!r} {'is a link' if len(absent) == 1 else f'and {len(absent) - 1} more are links'} to content that is not here. "
            "Expected whole files: download them (`datalad get`), or choose runs that are there with `run=`."
        )


def refuse_several(files: Sequence[BidsFile], *, but: Sequence[str], what: str) -> None:
    """Refuse files that differ in more than the entities that may vary, and list what there is.

    Parameters
    ----------
    files : sequence of BidsFile
    but : sequence of str
        Keys that may differ: runs and sessions.
    what : str
        What they are, for the message.

    Raises
    ------
    FormatError
        Several values of another key.
    """
    for key in sorted({key for file in files for key in file.entities}, key=_place):
        labels = [file.entities.get(key, NONE) for file in files]
        there = {label: labels.count(label) for label in sorted(set(labels))}
        if key not in but and len(there) > 1:
            counts = ", ".join(f"{label!r} ({n} {'file' if n == 1 else 'files'})" for label, n in there.items())
            raise FormatError(
                f"there is {what} of several {key!r}: {counts}. Expected one: choose with `{key}={next(iter(there))!r}`"
                f"{', where none means that the name has no such part' if NONE in there else ''}."
            )


def stated(path: str | Path, key: str) -> tuple[Path, Any] | None:
    """Return what the json sidecars say of a file: the nearest one that has the key, by the inheritance principle of BIDS.

    Parameters
    ----------
    path : str or Path
        An image or recording. A json of the same name holds for it, and so do those in its folder and in all above, up to the
        root of the data set, that have its suffix and no entity that it lacks.
    key : str

    Returns
    -------
    (Path, object) or None
        The sidecar and the value; None where nobody says it.

    Raises
    ------
    FormatError
        A damaged sidecar, or two of one rank that differ.
    """
    found: dict[tuple[int, int], tuple[Path, Any]] = {}
    for rank, sidecar in _sidecars(parse(path)):
        with reading(sidecar, "JSON"):
            value = json.loads(sidecar.read_text(encoding="utf-8-sig")).get(key)
        if value is None:
            continue
        other, same = found.setdefault(rank, (sidecar, value))
        if same != value:
            raise FormatError(
                f"{str(sidecar)!r} says {key} {value!r} and {str(other)!r} {same!r}, and both hold for {Path(path).name!r}. Expected one "
                "statement at one level: mend one."
            )
    return found[min(found)] if found else None


def _sidecars(file: BidsFile) -> list[tuple[tuple[int, int], Path]]:
    """Return the sidecars that hold for a file, each with its rank: levels above the file, then how many entities it lacks."""
    exact = file.path.with_name(file.path.name.partition(".")[0] + ".json") if file.entities else _beside(file.path)
    folders = [file.path.parent, *file.path.parent.parents]
    names = [folder.name for folder in folders]
    person = f"sub-{file.entities.get('sub')}"
    levels = folders[: names.index(person) + 2] if person in names else folders[:1]
    ranked = {exact: (-1, 0)} if exact.is_file() else {}
    for level, folder in enumerate(levels):
        for path in sorted([*folder.glob(f"[!.]*_{file.suffix}.json"), folder / f"{file.suffix}.json"]):
            entities = parse(path).entities
            if path not in ranked and path.is_file() and file.entities and entities.items() <= file.entities.items():
                ranked[path] = (level, -len(entities))
    return [(rank, path) for path, rank in ranked.items()]


def _beside(path: Path) -> Path:
    """Return the json of the same name, which may have dots in it."""
    return path.with_name(re.sub(r"(\.(func|shape|[dp]tseries|[dp]scalar))?\.(gii|nii)(\.gz)?$", "", path.name) + ".json")


def _person(root: Path, label: Any) -> str:
    people = sorted(path.name for path in root.glob("sub-*") if path.is_dir())
    person = people[0] if label is None and len(people) == 1 else f"sub-{label}"
    if person not in people:
        what = f"has no {person!r}" if label is not None else f"holds {len(people)} people and none was named"
        raise FormatError(
            f"{str(root)!r} {what}. It has {preview(people)}.{did_you_mean(person, people)} Name one of them with `subject=`."
        )
    return person


def _has(file: BidsFile, key: str, label: str) -> bool:
    return file.entities.get(key, NONE) == label


def _place(key: str) -> int:
    return ENTITIES.index(key) if key in ENTITIES else len(ENTITIES)
