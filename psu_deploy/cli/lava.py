"""psu-deploy lava."""

from __future__ import annotations

import typer

from psu_deploy.cli.console import hint, progress, table
from psu_deploy.cli.options import Version, as_command

lava = typer.Typer(
    name="lava",
    help="The Python 3.10 environment that Lava runs in.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@lava.callback()
def _lava(version: Version = False) -> None:
    """The Python 3.10 environment that Lava runs in."""


def setup() -> None:
    """Find the Python 3.10 environment with Lava, or make it (a minute, 470 MB); say where it is.

    It is made in $PSU_DEPLOY_LAVA_HOME, else in the virtual environment of this command, else in the user's cache. One
    that is there already is named by $PSU_DEPLOY_LAVA_PYTHON, its interpreter.

    Example: psu-deploy lava setup
    """
    from psu_deploy.exporters.lava import environment

    with progress() as bar:
        task = bar.add_task("looking for Lava", total=None)
        found = environment.setup(lambda text: bar.update(task, description=text))
    table("Lava is ready", ("", ""), [("interpreter", found.python), ("found by", found.origin)])
    hint("psu-deploy export model.psm --to lava --calibrate x.npy --out out/")


lava.command()(as_command(setup))
