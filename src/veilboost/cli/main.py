"""The command `veilboost`: its subcommands, and how they end.

Exit status 0, or 2 with one line on standard error that says what is wrong and where.
"""

from __future__ import annotations

import signal
import sys
from typing import Annotated

import typer

from veilboost.cli import demo, describe, roles, train
from veilboost.errors import VeilboostError
from veilboost.version import __version__

_INTERRUPTED = 130

app = typer.Typer(
    name="veilboost",
    help="XGBoost models on data that nobody is allowed to see.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
for module in (demo, describe, train, roles):
    module.add_to(app)


@app.callback(invoke_without_command=True)
def _start(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        typer.echo(f"veilboost {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> None:
    """Run the command line and end the process."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as when somebody presses Ctrl-C: peers hear of it
    try:
        status = app(standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        print("veilboost: interrupted", file=sys.stderr)
        sys.exit(_INTERRUPTED)
    except Exception as error:
        # Wrong usage comes as an exception of the command-line library that formats its own message.
        message = error.format_message() if hasattr(error, "format_message") else str(error)
        if not isinstance(error, VeilboostError) and not hasattr(error, "format_message"):
            raise
        print(f"veilboost: {' '.join(message.split())}", file=sys.stderr)
        sys.exit(2)
    if status == _INTERRUPTED:  # the command-line library has caught the interruption
        print("veilboost: interrupted", file=sys.stderr)
    sys.exit(status if isinstance(status, int) else 0)
