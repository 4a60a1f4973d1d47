"""The symmetry promise in code: ``modality`` and ``system`` are copied anywhere, but decide something only in three rooms.

What may switch behaviour is a property that either side can have: repeats, time, a grid, gradients.
"""

import ast
import re
from collections.abc import Iterator

import pytest

KIND = ("modality", "system")
MAY_DECIDE = ("core", "adapters", "reports")
COMPARING_CALLS = ("isin", "startswith", "endswith", "equals", "array_equal", "eq", "ne", "fullmatch")
COPYING_CALLS = ("str", "set", "list", "tuple", "sorted", "unique", "asarray", "array", "tolist", "item", "lower", "astype")


def is_read(node: ast.AST, aliases: set[str]) -> bool:
    """Say whether a node reads one of the two labels: ``x.system``, ``x["system"]``, ``.get("system")``, or a name for it."""
    if isinstance(node, ast.Attribute):
        return node.attr in KIND and isinstance(node.ctx, ast.Load)
    if isinstance(node, ast.Subscript):
        return isinstance(node.ctx, ast.Load) and getattr(node.slice, "value", None) in KIND
    if isinstance(node, ast.Call):
        names = [getattr(arg, "value", None) for arg in node.args[:2]]
        by_get = isinstance(node.func, ast.Attribute) and node.func.attr in ("get", "pop", "get_index") and names[:1] != []
        by_getattr = isinstance(node.func, ast.Name) and node.func.id == "getattr"
        return (by_get and names[0] in KIND) or (by_getattr and names[1:2] != [] and names[1] in KIND)
    return isinstance(node, ast.Name) and node.id in aliases and isinstance(node.ctx, ast.Load)


def is_copy(node: ast.AST, aliases: set[str]) -> bool:
    """Say whether an expression is a read and nothing but a read: ``str(x.system.values[0])``."""
    if is_read(node, aliases):
        return True
    if isinstance(node, ast.Call):
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        inside = [*node.args, *([node.func.value] if isinstance(node.func, ast.Attribute) else [])]
        return name in COPYING_CALLS and any(is_copy(part, aliases) for part in inside)
    return isinstance(node, (ast.Attribute, ast.Subscript)) and is_copy(node.value, aliases)


def aliases_of(scope: ast.AST) -> set[str]:
    """Return the variables that hold one of the two labels."""
    found: set[str] = set()
    for node in ast.walk(scope):
        value = getattr(node, "value", None) if isinstance(node, (ast.Assign, ast.AnnAssign, ast.NamedExpr)) else None
        if value is not None and is_copy(value, found):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def asks_presence(node: ast.AST) -> bool:
    """Say whether a comparison only asks if there is a label at all: ``... is None``."""
    return (
        isinstance(node, ast.Compare)
        and all(isinstance(op, (ast.Is, ast.IsNot)) for op in node.ops)
        and all(getattr(other, "value", "") is None for other in node.comparators)
    )


def conditions(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the parts of a node that decide something."""
    if isinstance(node, (ast.If, ast.IfExp, ast.While, ast.Assert)):
        yield node.test
    elif isinstance(node, (ast.Compare, ast.BoolOp)) or (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)):
        yield node
    elif isinstance(node, ast.Match):
        yield node.subject
    elif isinstance(node, ast.match_case) and node.guard is not None:
        yield node.guard
    elif isinstance(node, ast.comprehension):
        yield from node.ifs
    elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in COMPARING_CALLS:
        yield node
    elif isinstance(node, ast.Subscript) and (isinstance(node.value, ast.Dict) or getattr(node.value, "id", "a").isupper()):
        yield node.slice  # a table of behaviours, looked up by kind


def reads_in(condition: ast.AST, aliases: set[str]) -> Iterator[ast.AST]:
    """Yield the reads inside one condition."""
    if asks_presence(condition):
        return
    if is_read(condition, aliases):
        yield condition
    for child in ast.iter_child_nodes(condition):
        yield from reads_in(child, aliases)


def violations(tree: ast.Module, path: str) -> list[str]:
    """Return every condition that reads ``modality`` or ``system``, as messages with file and line."""
    found = set()
    scopes = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))]
    for scope in (tree, *scopes):
        aliases = aliases_of(scope) if scope is not tree else set()
        for node in ast.walk(scope):
            for condition in conditions(node):
                found |= {(read.lineno, ast.unparse(read)) for read in reads_in(condition, aliases)}
    return [f"{path}:{line} decides by `{text}`: switch on a property that either side can have" for line, text in sorted(found)]


def test_no_verb_asks_what_kind_of_system_it_was_given(package):
    found = [
        message
        for path, tree in package.items()
        if not re.match(rf"brainalign/({'|'.join(MAY_DECIDE)})/", path)
        for message in violations(tree, path)
    ]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    "source",
    [
        "if x.attrs['modality'] == 'fmri': pass",
        "if x.modality: pass",
        "y = 1 if x.attrs.get('modality') == 'ann' else 2",
        "while source.system != target.system: pass",
        "keep = x.coords['system'] == 'sub-01'",
        "brain = x[:, x['system'] != 'net']",
        "ok = x.attrs.get('modality') or 'ann'",
        "match x.attrs['modality']:\n    case 'fmri': pass",
        "rows = [u for u in units if u.system == 'net']",
        "assert getattr(x, 'modality') != 'ann'",
        "mask = np.isin(x.system, ['net'])",
        "flag = not x.system",
        "same = x.system.str.startswith('sub')",
        "step = {'fmri': 1, 'ann': 2}[x.attrs['modality']]",
        "step = STEPS[x.attrs['modality']]",
        "def f(x):\n    kind = x.attrs['modality']\n    return 1 if kind == 'fmri' else 2",
        "def f(x):\n    names = set(x.system.values.tolist())\n    if 'net' in names: pass",
        "f = lambda x: x.modality == 'meg'",
    ],
)
def test_a_planted_condition_is_caught_with_its_line(source):
    lines = [number for number, text in enumerate(source.splitlines(), 1) if re.search(r"\bif\b|\bmatch\b|==|!=", text)] or [1]
    found = violations(ast.parse(source), "brainalign/scores/x.py")
    assert found, source
    assert found[0].startswith(f"brainalign/scores/x.py:{lines[0]} ")


@pytest.mark.parametrize(
    "source",
    [
        "out.attrs['modality'] = x.attrs['modality']",
        "y = ba.responses(v, modality=x.attrs['modality'], system=x.system.values)",
        "if 'modality' in x.attrs: out.attrs['modality'] = x.attrs['modality']",
        "if responder.system is None: pass",
        "y = x.attrs['modality'] if long else 'ann'",
        "coords = {k: v for k, v in x.coords.items() if k not in ('system', 'modality')}",
        "if modality == 'fmri': pass",
        "def f(x):\n    out = g(x, system=x.system)\n    if out.size: pass",
        "if x.sizes['neuroid'] > 2 and 'layer' in x.coords: pass",
    ],
)
def test_copying_is_allowed(source):
    assert violations(ast.parse(source), "brainalign/scores/x.py") == []
