# SPDX-License-Identifier: LGPL-2.1-or-later
"""`xlmt xl` and `xlmt exec`: other people's programs, with the interposer."""

import typer

_AS_IT_IS = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "allow_interspersed_args": False,
    "help_option_names": [],
}


def add_to(app: typer.Typer) -> None:
    app.command("xl", context_settings=_AS_IT_IS, add_help_option=False)(xl)
    app.command("exec", context_settings=_AS_IT_IS, add_help_option=False)(exec_)


def xl(context: typer.Context) -> None:
    """Run the real xl with these arguments, keeping the nodes of the domains it handles."""
    from xlmt.domains import xl as real_xl

    real_xl.become([real_xl.find(), *context.args])


def exec_(context: typer.Context) -> None:
    """Run any program that uses libxl, keeping the nodes of the domains it handles."""
    from xlmt.domains import xl as real_xl
    from xlmt.errors import UsageError

    command = context.args[1:] if context.args[:1] == ["--"] else context.args
    if not command:
        raise UsageError("exec needs a command: xlmt exec -- COMMAND [ARGUMENT...]")
    real_xl.become(command)
