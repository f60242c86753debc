"""The options that commands share: groups of them, each declared once.

A command names a group as the type of one parameter; :func:`takes_groups` expands it to the options
of the group for typer, and hands the command an object that holds what was given.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Literal,
    TypeAlias,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

import typer

from lipexact.cli.inputs import (
    NUMBERS_HELP,
    make_domain,
    read_functional,
    read_network,
    read_option,
)
from lipexact.mip.solvers import solver_modules
from lipexact.network import Network
from lipexact.options import OptionKeywords, Options
from lipexact.sets.domain import Domain
from lipexact.sets.norms import norm_names

_F = TypeVar("_F", bound=Callable[..., Any])

# Shorter than what `Options` says of itself.
_SOLVE_HELP = {
    "method": "auto, bab, mip, or lp for the linear relaxation alone.",
    "solver": f"{', '.join(solver_modules()[:-1])} or {solver_modules()[-1]}.",
    "mode": "auto, forward or reverse.",
    "time_limit": "Seconds of wall-clock time.",
    "gap": "Stop at this relative gap.",
    "target": "Stop when the constant is known to be above or not.",
    "threads": "For the solver; processes for bab.",
    "solver_options": "NAME=VALUE under the solver's own names; repeat.",
}

Model: TypeAlias = Annotated[Path, typer.Argument(help="The ONNX file.")]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")]
Quiet: TypeAlias = Annotated[bool, typer.Option("--quiet", help="No progress on stderr.")]
Seconds: TypeAlias = Annotated[float | None, typer.Option(help=_SOLVE_HELP["time_limit"])]
BallNorm: TypeAlias = Annotated[
    str, typer.Option("--ball-norm", help="The ball's norm: linf or l1.")
]
Clip: TypeAlias = Annotated[
    str | None, typer.Option("--clip", help="Cut the ball to LO,HI, as for pixels.")
]


class Group:
    """Options that belong together; subclasses are dataclasses with a field for each."""

    @classmethod
    def parameters(cls, about: Mapping[str, str]) -> list[inspect.Parameter]:
        """Return the options as parameters for typer; `about` replaces texts by the names."""
        del about
        hints = get_type_hints(cls, include_extras=True)
        return [
            _parameter(each.name, each.default, hints[each.name])
            for each in fields(cls)  # type: ignore[arg-type]
        ]


@dataclass(frozen=True)
class Reading(Group):
    """How a network's file is read."""

    input_name: Annotated[
        str | None, typer.Option("--input", help="The name of the network's input.")
    ] = None
    output_name: Annotated[
        str | None, typer.Option("--output", help="The name of its output, or of an inner tensor.")
    ] = None
    fix: Annotated[
        list[str] | None,
        typer.Option("--fix", help=f"NAME={NUMBERS_HELP}: constants for a further input; repeat."),
    ] = None
    drop_final: Annotated[
        bool,
        typer.Option(
            "--drop-final",
            help="Leave out the Softmax, Sigmoid or the like that the output ends in.",
        ),
    ] = False
    no_batch: Annotated[
        bool, typer.Option("--no-batch-axis", help="The first axis is no batch axis.")
    ] = False

    def network(self, model: Path) -> Network:
        """Load the network of a file."""
        return read_network(
            model, self.input_name, self.output_name, self.fix, self.drop_final, self.no_batch
        )


@dataclass(frozen=True)
class Inputs(Group):
    """A ball, a box, or all inputs."""

    center: Annotated[
        str | None, typer.Option("--center", help=f"The ball's centre: {NUMBERS_HELP}.")
    ] = None
    radius: Annotated[float | None, typer.Option("--radius", help="The ball's radius.")] = None
    ball_norm: BallNorm = "linf"
    clip: Clip = None
    lower: Annotated[
        str | None, typer.Option("--lower", help=f"The box's lower corner: {NUMBERS_HELP}.")
    ] = None
    upper: Annotated[
        str | None, typer.Option("--upper", help="The box's upper corner, likewise.")
    ] = None
    everywhere: Annotated[
        bool, typer.Option("--everywhere", help="All inputs: the global constant.")
    ] = False

    def domain(self, network: Network) -> Domain:
        """Return the domain, of the network's input dimension."""
        return make_domain(
            network,
            self.center,
            self.radius,
            self.ball_norm,
            self.clip,
            self.lower,
            self.upper,
            self.everywhere,
        )


@dataclass(frozen=True)
class Norms(Group):
    """Norms, and the functional."""

    norm: Annotated[
        str,
        typer.Option("--norm", help=f"The norm on the input side: {' or '.join(norm_names())}."),
    ] = "linf"
    output_norm: Annotated[
        str | None,
        typer.Option(
            "--output-norm", help="The norm of the whole output; that of the input if not given."
        ),
    ] = None
    functional: Annotated[
        str | None,
        typer.Option(
            "--functional",
            help="An output's index; a weight for each, as numbers or a file; a file with several "
            "rows of them; cross for the differences of any two outputs, cross:K for those with "
            "output K. The whole output if not given.",
        ),
    ] = None

    def keywords(self) -> dict[str, Any]:
        """Return them as keywords of :func:`lipexact.lipschitz`."""
        return {
            "input_norm": self.norm,
            "output_norm": self.output_norm,
            "functional": read_functional(self.functional),
        }


class SolveOptions(Group):
    """How a constant is to be computed: the fields of :class:`lipexact.options.Options`."""

    def __init__(self, **given: Any) -> None:
        self._given = given

    @classmethod
    def parameters(cls, about: Mapping[str, str]) -> list[inspect.Parameter]:
        """Return a parameter for each field; dictionaries become a repeated NAME=VALUE."""
        hints = get_type_hints(OptionKeywords)
        return [_solve_parameter(each, hints[each.name], about) for each in fields(Options)]

    def keywords(self) -> dict[str, Any]:
        """Return them as keywords of :func:`lipexact.lipschitz`."""
        keywords = {}
        for each in fields(Options):
            value = self._given[_singular(each)]
            if _is_dictionary(each):
                what = "--" + _singular(each).replace("_", "-")
                value = dict(read_option(text, what) for text in value or [])
            keywords[each.name] = value
        return keywords


def takes_groups(command: _F) -> _F:
    """Expand the groups in a command's signature to their options.

    A parameter ``options: Annotated[SolveOptions, {"gap": "..."}]`` has its own text for an option.
    """
    groups: dict[str, tuple[type[Group], list[inspect.Parameter]]] = {}
    expanded: list[inspect.Parameter] = []
    for each in inspect.signature(command, eval_str=True).parameters.values():
        kind, about = _group(each.annotation)
        if kind is None:
            expanded.append(each.replace(kind=inspect.Parameter.KEYWORD_ONLY))
        else:
            groups[each.name] = kind, kind.parameters(about)
            expanded += groups[each.name][1]

    @functools.wraps(command)
    def call(**given: Any) -> Any:
        for name, (kind, parameters) in groups.items():
            given[name] = kind(**{each.name: given.pop(each.name) for each in parameters})
        return command(**given)

    call.__signature__ = inspect.Signature(expanded)  # type: ignore[attr-defined]
    call.__annotations__ = {each.name: each.annotation for each in expanded}
    return call  # type: ignore[return-value]


def _group(annotation: Any) -> tuple[type[Group] | None, Mapping[str, str]]:
    """Return the group that an annotation names, and the texts that differ; None for an option."""
    about: Mapping[str, str] = {}
    if get_origin(annotation) is Annotated:
        annotation, extra, *_ = get_args(annotation)
        about = extra if isinstance(extra, Mapping) else {}
    is_group = isinstance(annotation, type) and issubclass(annotation, Group)
    return (annotation if is_group else None), about


def _parameter(name: str, default: Any, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


def _solve_parameter(option: Field[Any], hint: Any, about: Mapping[str, str]) -> inspect.Parameter:
    """Return the parameter for one field of `Options`."""
    text = " ".join(option.metadata["about"].split())
    text = (_SOLVE_HELP | dict(about)).get(option.name, text)
    default = option.default
    if _is_dictionary(option):
        hint = list[str] | None
        default = None
    elif get_origin(hint) is Literal:
        hint = str  # which `Options` checks
    return _parameter(_singular(option), default, Annotated[hint, typer.Option(help=text)])


def _is_dictionary(option: Field[Any]) -> bool:
    return option.default is MISSING


def _singular(option: Field[Any]) -> str:
    """Return the name of a parameter: that of one entry, where it is repeated."""
    return option.name.removesuffix("s") if _is_dictionary(option) else option.name
