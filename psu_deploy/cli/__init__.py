"""The psu-deploy command: one file per verb, each a thin shell over the library.

Exit codes: 0 = all good, 1 = the check failed, 2 = bad usage or bad input, 130 = interrupted.
"""

from __future__ import annotations

import errno
import os
import sys

import typer

from psu_deploy import interrupt
from psu_deploy.cli.centre import centre
from psu_deploy.cli.certify import certify
from psu_deploy.cli.console import SENTENCE, tell, unwritten
from psu_deploy.cli.demo import demo
from psu_deploy.cli.doctor import doctor
from psu_deploy.cli.export import export
from psu_deploy.cli.fuzz import fuzz
from psu_deploy.cli.import_ import import_
from psu_deploy.cli.inspect import inspect
from psu_deploy.cli.lava import lava
from psu_deploy.cli.options import InterruptedVerb, Version, as_command
from psu_deploy.cli.run import run
from psu_deploy.cli.train import train
from psu_deploy.cli.tune import tune
from psu_deploy.cli.verify import verify
from psu_deploy.errors import InternalError, PsuDeployError, UnsupportedModelError
from psu_deploy.files.limits import NO_MEMORY
from psu_deploy.text import visible

BAD_INPUT = 2

app = typer.Typer(
    name="psu-deploy",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in (demo, train, tune, import_, centre, export, verify, certify, run, inspect, fuzz, doctor):
    app.command(verb.__name__.rstrip("_"))(as_command(verb))
app.add_typer(lava, name="lava")


@app.callback()
def _app(version: Version = False) -> None:
    """Train Parallel Spiking Units in parallel, deploy them serially, prove the spikes are the same."""


def main() -> None:
    """Run the command line; one clear sentence instead of a traceback."""
    interrupt.as_usual()
    if sys.stdout is None:
        _fail("standard output is closed; send it to a file, or to /dev/null")
    try:
        _run()
    except UnsupportedModelError as error:
        _fail(str(error), table=True)
    except PsuDeployError as error:
        said = error.shell or str(error)
        _fail(f"internal error, please report it: {said}" if isinstance(error, InternalError) else said)
    except (KeyboardInterrupt, InterruptedVerb):
        tell("interrupted")
        sys.exit(interrupt.INTERRUPTED)
    except MemoryError as error:
        _fail(f"there is not enough memory here: {error}")
    except Exception as error:
        if NO_MEMORY in str(error):
            _fail(f"there is not enough memory here: {error}")
        if os.environ.get("PSU_DEPLOY_DEBUG"):
            raise
        kind = type(error).__name__
        _fail(f"internal error, please report it: {kind}: {error} (PSU_DEPLOY_DEBUG=1 shows where)")


def _run() -> None:
    """The verb, and then what Python still holds of its output."""
    try:
        app()
    except OSError as error:  # of --help, which typer prints by itself
        if error.errno not in (errno.ENOSPC, errno.EPIPE):
            raise
        raise unwritten(error) from error
    finally:
        try:
            sys.stdout.flush()
        except OSError as error:
            raise unwritten(error) from error


def _fail(message: str, table: bool = False) -> None:
    """One sentence, whatever its names hold; only what lists problems has lines."""
    tell(f"error: {message}" if table else visible(f"error: {message}", SENTENCE))
    sys.exit(BAD_INPUT)
