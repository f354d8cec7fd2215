# SPDX-License-Identifier: LGPL-2.1-or-later
"""What options of several commands have in common, and how Typer is told of them."""

import copy
import functools
import inspect
import math
from collections.abc import Callable
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_origin

import typer
from typer.models import OptionInfo

Command = TypeVar("Command", bound=Callable[..., Any])


class App(typer.Typer):
    """Typer, for which a command's options may be Annotated in every release of it.

    Debian 12 has 0.7, and Typer reads Annotated since 0.9 only. All of them read an option that is
    the default of its parameter, so each is told of it in this way.
    """

    def command(self, *names: Any, **settings: Any) -> Callable[[Command], Command]:
        return _plain(super().command(*names, **settings))

    def callback(self, *names: Any, **settings: Any) -> Callable[[Command], Command]:
        return _plain(super().callback(*names, **settings))


def _plain(register: Callable[[Any], Any]) -> Callable[[Command], Command]:
    def take(command: Command) -> Command:
        register(_with_defaults(command))
        return command

    return take


def _with_defaults(command: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(command)
    parameters = [_with_default(parameter) for parameter in signature.parameters.values()]

    @functools.wraps(command)
    def called(*values: Any, **named: Any) -> Any:
        return command(*values, **named)

    called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    called.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return called


def _with_default(parameter: inspect.Parameter) -> inspect.Parameter:
    if get_origin(parameter.annotation) is not Annotated:
        return parameter
    kind = parameter.annotation.__origin__
    if isinstance(kind, UnionType):
        kind = Union[kind.__args__]  # noqa: UP007  # which `str | None` is not to 0.7
    info = copy.copy(parameter.annotation.__metadata__[0])
    if isinstance(info, OptionInfo):  # without a default, its first name stands there
        info.param_decls = (str(info.default), *(info.param_decls or ()))
    info.default = ... if parameter.default is parameter.empty else parameter.default
    return parameter.replace(annotation=kind, default=info)


def finite(seconds: float) -> float:
    """Refuse what is no time to wait for, though a float, and passes every `min`."""
    if not math.isfinite(seconds):
        raise typer.BadParameter(f"{seconds} is no number of seconds.")
    return seconds
