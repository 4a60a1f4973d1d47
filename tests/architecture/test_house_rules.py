"""Rules that a reader relies on in every room: small modules and functions, no asserts, no unsafe doors, a test per module."""

import ast

import pytest

MAX_MODULE_LINES, MAX_FUNCTION_LINES = 400, 60
NAMELESS = ("utils", "util", "helpers", "misc", "common")
UNSAFE_MODULES = ("pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal")
UNSAFE_CALLS = ("eval", "exec", "compile", "os.system", "os.popen", "joblib.load", "yaml.load", "yaml.unsafe_load")
UNSAFE_FLAGS = ("shell", "trust_remote_code", "allow_pickle")
# One statement in one module: THINGS-EEG2 is published as pickled dicts. Its reader is a subclass whose `find_class` knows seven
# names, all of them plain functions of that module, and runs only on request; `load` and `loads` stay out of reach.
EXEMPT_IMPORTS = {"brainalign/adapters/pickled.py": "from pickle import Unpickler"}


def unsafe_doors(tree: ast.Module, path: str) -> list[str]:
    """Return every door through which a file could run code, as messages with file and line."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)) and ast.unparse(node) != EXEMPT_IMPORTS.get(path):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            found += [f"{path}:{node.lineno} imports {name}" for name in names if name.split(".")[0] in UNSAFE_MODULES]
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            flags = {keyword.arg: keyword.value for keyword in node.keywords}
            if name in UNSAFE_CALLS:
                found.append(f"{path}:{node.lineno} calls {name}()")
            if name == "torch.load" and getattr(flags.get("weights_only"), "value", None) is not True:
                found.append(f"{path}:{node.lineno} calls torch.load without weights_only=True")
            for flag in UNSAFE_FLAGS:
                if flag in flags and getattr(flags[flag], "value", None) is not False:
                    found.append(f"{path}:{node.lineno} passes {flag}={ast.unparse(flags[flag])}")
    return found


def asserts(tree: ast.Module, path: str) -> list[str]:
    """Return every assert statement, as messages with file and line."""
    return [f"{path}:{node.lineno} asserts: raise a typed error" for node in ast.walk(tree) if isinstance(node, ast.Assert)]


def long_functions(tree: ast.Module, path: str) -> list[str]:
    """Return every function that is too long, its docstring not counted, as messages with file and line."""
    functions = (node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)))
    sizes = [
        (node.lineno, node.name, (node.end_lineno or node.lineno) - node.lineno - docstring_lines(node)) for node in functions
    ]
    return [
        f"{path}:{line} {name} has {n} lines of code below its first, over {MAX_FUNCTION_LINES}"
        for line, name, n in sizes
        if n > MAX_FUNCTION_LINES
    ]


def docstring_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return how many lines the docstring of a function takes."""
    first = node.body[0]
    is_text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    return (first.end_lineno or first.lineno) - first.lineno + 1 if is_text else 0


def silent_handlers(tree: ast.Module, path: str) -> list[str]:
    """Return every handler that swallows whatever went wrong, as messages with file and line."""
    return [
        f"{path}:{node.lineno} swallows every error"
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or getattr(node.type, "id", "") in ("Exception", "BaseException"))
        and all(isinstance(statement, (ast.Pass, ast.Continue)) for statement in node.body)
    ]


@pytest.mark.parametrize("rule", [unsafe_doors, asserts, long_functions, silent_handlers], ids=lambda rule: rule.__name__)
def test_every_module_keeps_the_rule(package, rule):
    found = [message for path, tree in package.items() for message in rule(tree, path)]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (unsafe_doors, "import pickle"),
        (unsafe_doors, "from pickle import loads"),
        (unsafe_doors, "eval(text)"),
        (unsafe_doors, "exec(text)"),
        (unsafe_doors, "subprocess.run(command, shell=True)"),
        (unsafe_doors, "AutoModel.from_pretrained(name, trust_remote_code=True)"),
        (unsafe_doors, "AutoModel.from_pretrained(name, trust_remote_code=trust)"),
        (unsafe_doors, "np.load(path, allow_pickle=True)"),
        (unsafe_doors, "torch.load(path)"),
        (asserts, "assert x.ndim == 2"),
        (long_functions, "def f():\n" + "    x = 1\n" * 81),
        (silent_handlers, "try:\n    f()\nexcept Exception:\n    pass"),
    ],
)
def test_a_planted_fault_is_caught(rule, source):
    found = rule(ast.parse(source), "brainalign/core/x.py")
    assert len(found) == 1
    assert found[0].startswith("brainalign/core/x.py:")


@pytest.mark.parametrize("source", ["torch.load(path, weights_only=True)", "np.load(path, allow_pickle=False)", "model.eval()"])
def test_a_safe_call_passes(source):
    assert unsafe_doors(ast.parse(source), "x.py") == []


@pytest.mark.parametrize("source", ["import pickle", "from pickle import Unpickler, loads"])
def test_the_one_exemption_is_for_one_statement(source):
    assert unsafe_doors(ast.parse(source), "brainalign/adapters/pickled.py")
    assert unsafe_doors(ast.parse("from pickle import Unpickler"), "brainalign/adapters/x.py")


def test_modules_are_one_room_each(package, root):
    sizes = {path: len((root / path).read_text(encoding="utf-8").splitlines()) for path in package}
    assert not {path: n for path, n in sizes.items() if n > MAX_MODULE_LINES}, f"modules over {MAX_MODULE_LINES} lines"


def test_modules_have_names_that_say_what_they_hold(package):
    assert not [path for path in package if path.rsplit("/", 1)[1].removesuffix(".py") in NAMELESS]


def test_every_module_has_its_test_file(package, root):
    modules = [path for path in package if not path.endswith("__init__.py")]
    wanted = {path: path.replace("brainalign/", "tests/", 1).rpartition("/") for path in modules}
    missing = [
        f"{path}:1 has no {folder}/test_{name}"
        for path, (folder, _, name) in wanted.items()
        if not (root / folder / f"test_{name}").is_file()
    ]
    assert not missing, "\n" + "\n".join(missing)
