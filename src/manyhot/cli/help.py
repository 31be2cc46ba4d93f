"""Commands whose help describes the values of options in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import typer
from typer.core import TyperCommand, TyperOption


class ManyValues(TyperCommand):
    """A command with an option ``--predictions`` that takes several values: ``--predictions a.npy b.npy``.

    Attributes
    ----------
    moved : mapping of str to str
        Options of the previous release that were renamed or moved to another command, each with the new
        option or command.
    """

    moved: Mapping[str, str] = MappingProxyType({})

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Repeat the option before each further value, because Click expects one value per option."""
        spread: list[str] = []
        taking = False
        for arg in args:
            option = arg.partition("=")[0]
            if option in self.moved:
                now = self.moved[option]
                where = f"now {now}" if now.startswith("--") else f"a command of its own now: {now}"
                raise typer.BadParameter(f"{option} is {where}")
            if taking and not arg.startswith("-") and spread[-1] != "--predictions":
                spread.append("--predictions")
            elif arg.startswith("-"):
                taking = option == "--predictions"
            spread.append(arg)
        self._check_once(spread)
        return super().parse_args(ctx, spread)

    def _check_once(self, args: list[str]) -> None:
        """Raise an error if an option has several values, of which Click would use only the last."""
        options = args[: args.index("--")] if "--" in args else args
        times = Counter(arg.partition("=")[0] for arg in options if arg.startswith("--"))
        for parameter in self.params:
            is_single = isinstance(parameter, TyperOption) and not (parameter.multiple or parameter.is_flag)
            for option in parameter.opts if is_single else ():
                if times[option] > 1:
                    raise typer.BadParameter(f"{option} was passed {times[option]} times; pass it only once")


HELP = {"help_option_names": ["-h", "--help"]}


def typer_command(name: str, function: Callable[..., Any], **more: Any) -> ManyValues:
    """Return a function as a command by itself."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(name, context_settings=HELP, cls=ManyValues, **more)(function)
    made = typer.main.get_command(app)
    assert isinstance(made, ManyValues)
    in_words(made)
    return made


def in_words(made: Any) -> None:
    """Make the help of a command describe the values of its options in words."""
    get_help_option = made.get_help_option

    def help_option(ctx: Any) -> Any:
        option = get_help_option(ctx)
        name_values(option)
        return option

    made.get_help_option = help_option
    for parameter in made.params:
        name_values(parameter)


_WORDS = {"int": "N", "float": "NUMBER", "str": "TEXT", "Path": "PATH"}


def name_values(parameter: Any) -> None:
    """Make help describe the value of an option in plain words, and show nothing for a flag."""
    if not hasattr(parameter, "bare_type"):  # versions of Typer that do not show types
        return
    kind = parameter.bare_type().removeprefix("list[").removesuffix("]")
    if parameter.param_type_name != "option" or kind == "bool":
        parameter.display_type_rich = lambda ctx: None
    elif not parameter.type_descriptor.is_choice:
        word = parameter.metavar or _WORDS.get(kind, "TEXT")
        parameter.display_type_rich = lambda ctx: word
    else:  # Typer shows <list[a|b]> for an option that can be repeated
        choices = "|".join(str(getattr(c, "value", c)) for c in parameter.type_descriptor.choices)
        parameter.display_type_rich = lambda ctx: f"[{choices}]"
