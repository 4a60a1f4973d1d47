"""``brainalign record | evaluate | compare | rsa | decode | report | data | demo``: each a thin face of the public function of that name."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from brainalign.core.errors import BrainAlignError

_MOST_ROWS = 200  # that are printed of a table
_AS_WRITTEN = argparse.RawDescriptionHelpFormatter
COMMANDS = {
    "record": "present stimuli to a network and store the responses of its layers",
    "evaluate": "score how well one system predicts another, per neuroid",
    "compare": "score every group of one system against every group of another",
    "rsa": "compare the geometries of two systems, or of their groups",
    "decode": "tell stimuli or conditions from a recording at every time",
    "report": "write saved results as one HTML page",
}


def main(argv: Sequence[str] | None = None) -> int:
    r"""Run one command of the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; default those of the process.

    Returns
    -------
    int
        Exit status: 0, or 1 after an error that brainalign explains in one line on standard error, or one in checked data; 130 where it
        was interrupted.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> spec = pathlib.Path(tempfile.mkdtemp(), "spec.toml")
    >>> _ = spec.write_text('source = "net.zarr"\ntarget = "brain.zarr"\ncv = 3\n')
    >>> main(["evaluate", str(spec), "--dry-run"])
    import brainalign as ba
    <BLANKLINE>
    source = ba.open_responses('net.zarr')
    target = ba.open_responses('brain.zarr')
    result = ba.evaluate(source, target, cv=3)
    0
    """
    arguments = _parser().parse_args(argv)
    try:
        if arguments.command == "demo":
            from brainalign.cli.demo import demo

            demo(arguments.output)
        elif arguments.command == "data":
            return _data(arguments)
        else:
            _run(arguments)
    except BrainAlignError as error:
        if arguments.debug:
            raise
        print(f"{type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: with `resume = true`, and in `record`, the same command goes on from what is kept", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="brainalign", description="Align brains and artificial networks.")
    parser.add_argument("--version", action="version", version=f"brainalign {_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name, text in COMMANDS.items():
        command = commands.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=_keys(name), formatter_class=_AS_WRITTEN
        )
        command.add_argument("spec", help="TOML file; its keys are the keyword arguments of the function of that name")
        command.add_argument("--dry-run", action="store_true", help="print the calls as Python instead of running them")
        command.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
    _add_data(commands)
    text = "run the main job offline on a simulated brain, and write a report"
    command = commands.add_parser("demo", help=text, description=f"{text[0].upper()}{text[1:]}.")
    command.add_argument("--output", default="demo-output", help="folder for the study and the report (default: %(default)s)")
    command.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
    return parser


def _keys(command: str) -> str:
    """Say which keys a file must have, and where all of them are explained."""
    from brainalign.cli.spec import FUNCTION, REQUIRED

    return (
        f"keys that it must have: {', '.join(REQUIRED[command])}\n"
        f"all keys: python -c 'import brainalign as ba; help(ba.{FUNCTION[command]})'\n"
        "examples of all files: docs/command_line.md"
    )


def _add_data(commands: Any) -> None:
    text = "look at a recording, or bring it into a study: `brainalign data check PATH`, `brainalign data add PATH STUDY`"
    data = commands.add_parser("data", help=text, description=f"{text[0].upper()}{text[1:]}.")
    verbs = data.add_subparsers(dest="data_command", required=True, metavar="check | add")
    check = verbs.add_parser("check", help="say what is wrong with a recording, or seldom meant")
    add = verbs.add_parser("add", help="save a recording into a study")
    for command in (check, add):
        command.add_argument("path", help="a study, or a file or folder of any format")
        command.add_argument("--format", help="name of the format; by default the content decides, and the reason is printed")
        command.add_argument(
            "--option",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="option of the format, e.g. tr_s=2.0; may be repeated",
        )
        command.add_argument("--debug", action="store_true", help="show the whole traceback of an error")
    check.add_argument("--output", metavar="PAGE.html", help="write the findings with a picture of each")
    add.add_argument("study", help="folder of the study; made where there is none")
    add.add_argument("--name", help="name of the recording in the study (default: its system)")
    add.add_argument("--overwrite", action="store_true", help="replace a recording of this name")
    add.add_argument("--single-trials", action="store_true", help="make each presentation a stimulus of its own")


def _data(arguments: argparse.Namespace) -> int:
    from brainalign.cli.data import add_path, check_path

    opened = {"format": arguments.format, "options": arguments.option}
    if arguments.data_command == "check":
        return check_path(arguments.path, output=arguments.output, **opened)
    kept = {"name": arguments.name, "overwrite": arguments.overwrite, "single_trials": arguments.single_trials}
    add_path(arguments.path, arguments.study, **kept, **opened)
    return 0


def _version() -> str:
    import brainalign

    return brainalign.__version__


def _run(arguments: argparse.Namespace) -> None:
    from brainalign.cli.program import as_python, run
    from brainalign.cli.spec import program, read_spec

    spec = read_spec(arguments.spec)
    lines = program(arguments.command, spec)
    if arguments.dry_run:
        print(as_python(lines))
        return
    _refuse_taken(arguments.command, spec)
    _show(arguments.command, run(lines), spec)


def _refuse_taken(command: str, spec: dict[str, Any]) -> None:
    """Say before the work, not after it, that the result would have no place."""
    from brainalign.cli.spec import EXTRA, FUNCTION
    from brainalign.core.errors import StoreError
    from brainalign.dataset.open import open_study

    if "store" not in EXTRA[command] or "store" not in spec or spec.get("overwrite") or "resume" in spec:
        return
    name = str(spec.get("name", FUNCTION[command]))
    if Path(spec["store"]).exists() and name in open_study(spec["store"])["results"]:
        raise StoreError(
            f"{spec['store']} already holds results/{name}. Expected a free name: set `name`, or `overwrite = true`."
        )


def _show(command: str, made: dict[str, Any], spec: dict[str, Any]) -> None:
    """Print what was made and where it is."""
    if command == "report":
        print(made["page"])
        return
    from brainalign.cli.spec import FUNCTION
    from brainalign.reports.table import summary, tidy

    if command == "record":
        print(f"{' × '.join(f'{n} {dim}' for dim, n in made['result'].sizes.items())} in {spec['store']}")
        return
    table = summary(made["result"]) if command == "evaluate" else tidy(made["result"])
    print(table.to_string(index=False, max_rows=_MOST_ROWS, float_format=lambda value: f"{value:.3f}"))
    if len(table) > _MOST_ROWS:
        print(f"{len(table):,} rows, of which the first and the last are shown")
    if "store" in spec:
        print(f"saved in {spec['store']} as results/{spec.get('name', FUNCTION[command])}")


if __name__ == "__main__":
    sys.exit(main())
