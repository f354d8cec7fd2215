# SPDX-License-Identifier: LGPL-2.1-or-later
"""`xlmt create` and `destroy`.

Imports of what does the work are inside the commands: `xlmt --help` must not need libxl, and an
extension that does not fit this host has to become an error message.
"""

import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from xlmt.errors import UsageError

if TYPE_CHECKING:
    from xlmt.domains.lifecycle import Destroyed

_log = logging.getLogger("xlmt")


def add_to(app: typer.Typer) -> None:
    app.command()(create)
    app.command()(destroy)


def create(  # noqa: PLR0913, PLR0917  # xl's options are what they are
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            ...,
            metavar="[CONFIG] [KEY=VALUE]...",
            show_default=False,
            help="A domain configuration, see xl.cfg(5), and settings to add to it.",
        ),
    ] = None,
    defconfig: Annotated[
        str | None, typer.Option("-f", "--defconfig", metavar="FILE", help="The configuration.")
    ] = None,
    paused: Annotated[bool, typer.Option("-p", help="Leave the domain paused.")] = False,
    console: Annotated[bool, typer.Option("-c", help="Attach to the console.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Say less.")] = False,
    dryrun: Annotated[
        bool, typer.Option("-n", "--dryrun", help="Print the parsed configuration; create nothing.")
    ] = False,
    foreground: Annotated[
        bool, typer.Option("-F", help="Supervise it in the foreground, as xl does.")
    ] = False,
    leave: Annotated[bool, typer.Option("-e", help="Do not have it supervised.")] = False,
    vncviewer: Annotated[bool, typer.Option("-V", "--vncviewer", help="Start a viewer.")] = False,
    autopass: Annotated[
        bool, typer.Option("-A", "--vncviewer-autopass", help="The same, passing the password.")
    ] = False,
    debug: Annotated[bool, typer.Option("-d", help="Print the configuration, too.")] = False,
    ignore_affinity: Annotated[
        bool, typer.Option("-i", "--ignore-global-affinity-masks", help="See xl(1).")
    ] = False,
) -> int:
    """Create a domain as `xl create` does, with its mtwatch node first."""
    from xlmt.domains import xl
    from xlmt.xenstore import Store

    config, overrides = _sort_out(arguments or [], defconfig)
    for_xl = ["-i"] if ignore_affinity else []
    with Store() as store:
        store.ping()  # xl, which parses, would wait for a stuck xenstored for ever
    if dryrun:
        return xl.dry_run(config, overrides, [*for_xl, *(["-q"] if quiet else [])])
    from xlmt.session import bounded
    from xlmt.supervise import launch
    from xlmt.supervise.restart_limit import RestartLimit

    restart_limit = RestartLimit.from_settings(os.environ)
    managed_by = launch.ManagedBy.FOREGROUND if foreground else launch.ManagedBy.SUPERVISOR
    options = launch.Options(
        paused=paused,
        console=console,
        vncviewer=vncviewer,
        vncviewer_autopass=autopass,
        managed_by=launch.ManagedBy.NOBODY if leave else managed_by,
    )
    if not quiet and _log.isEnabledFor(logging.WARNING):
        typer.echo(f"Parsing config from {config}", err=True)
    parsed = xl.parse(config, overrides, for_xl)
    if debug:
        import json

        typer.echo(json.dumps(parsed, indent=4), err=True)
    with bounded("the creation"):
        launched = launch.start(parsed, options)
    if foreground:
        logging.getLogger("xlmt.supervise").setLevel(logging.INFO)  # as xl, which tells
    launched.stay(restart_limit)
    return 0


def _sort_out(arguments: Sequence[str], defconfig: str | None) -> tuple[str, list[str]]:
    """Tell the configuration from the KEY=VALUE settings, as xl does."""
    overrides = [argument for argument in arguments if "=" in argument]
    configs = [argument for argument in arguments if "=" not in argument]
    if defconfig is not None:
        configs = [defconfig, *configs]
    if len(configs) != 1:
        what = f"more than one: {', '.join(configs)}" if configs else "none given"
        raise UsageError(f"create needs one configuration file, {what}")
    return configs[0], overrides


def destroy(
    wanted: Annotated[list[str], typer.Argument(..., metavar="DOMAIN...", help="Names or domids.")],
    _force: Annotated[
        bool, typer.Option("-f", help="Accepted as in xl; domain 0 is refused all the same.")
    ] = False,
) -> int:
    """Destroy domains; each one's node goes last, or stays while the kernel needs it."""
    from xlmt.domains import lifecycle
    from xlmt.session import opened

    status = 0
    with opened("the destruction") as (store, ctx):
        domids = [lifecycle.resolve(ctx, name) for name in wanted]  # all, before anything is done
        for domid in domids:
            status = max(status, _report(domid, lifecycle.destroy(ctx, store, domid)))
    return status


def _report(domid: int, left: "Destroyed") -> int:
    """Say what a destruction left behind; return its exit status."""
    if left.error:
        _log.error("%s", left.error)
    if left.node_left and left.held:
        _log.warning(
            "domain %d: its node is kept: the kernel still holds %s; once it is released: "
            "xlmt reconcile",
            domid,
            ", ".join(left.held),
        )
    elif left.node_left:
        _log.warning("domain %d: its node is left over; to remove it: xlmt reconcile", domid)
    return 1 if left.error else 0
