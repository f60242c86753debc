"""What a command line names: numbers, networks, domains and functionals from text and files."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lipexact.cli import exits
from lipexact.cli.exits import fail
from lipexact.errors import DomainError, LipExactError
from lipexact.loading import load
from lipexact.network import Network
from lipexact.sets.domain import Domain
from lipexact.sets.domains import Ball, Box, Reals
from lipexact.sets.functionals import CrossLipschitz, Functional

NUMBERS_HELP = "a number for all entries, numbers with commas between, or a .npy or .csv file"


def read_network(
    model: Path,
    input_name: str | None,
    output_name: str | None,
    fix: list[str] | None,
    drop_final: bool,
    no_batch: bool,
) -> Network:
    """Load a network; errors name the command line's options beside those of :func:`load`."""
    fixed = {}
    for text in fix or []:
        # Exporters' names may hold anything but, by habit, an equals sign.
        name, equals, value = text.partition("=")
        if not (name and equals):
            fail(f"--fix takes NAME={NUMBERS_HELP}, not {text!r}", exits.USAGE)
        if name in fixed:
            fail(f"--fix gives '{name}' twice", exits.USAGE)
        fixed[name] = read_numbers(value, f"--fix {name}")
    try:
        return load(
            model,
            input=input_name,
            output=output_name,
            fixed=fixed,
            drop_final=drop_final,
            batched=not no_batch,
        )
    except LipExactError as error:
        if "lipexact.load(" not in str(error):
            raise
        options = "--input, --output, --fix, --drop-final and --no-batch-axis"
        raise type(error)(f"{error} (on the command line: {options})") from None


def make_domain(
    network: Network,
    center: str | None,
    radius: float | None,
    ball_norm: str,
    clip: str | None,
    lower: str | None,
    upper: str | None,
    everywhere: bool,
) -> Domain:
    """Return the ball, the box, or the whole space that the options describe."""
    for_a_ball = {"--center": center, "--radius": radius, "--clip": clip}
    for_a_box = {"--lower": lower, "--upper": upper}
    ball = [name for name, given in for_a_ball.items() if given is not None]
    box = [name for name, given in for_a_box.items() if given is not None]
    if center is not None and radius is not None and not (box or everywhere):
        return Ball(_point(center, network, "--center"), radius, ball_norm, _read_clip(clip))
    if lower is not None and upper is not None and not (ball or everywhere):
        return Box(_point(lower, network, "--lower"), _point(upper, network, "--upper"))
    if not everywhere or ball or box:
        given = ", ".join([*ball, *box, *(["--everywhere"] if everywhere else [])]) or "neither"
        ways = "a ball by --center and --radius, a box by --lower and --upper, or --everywhere"
        fail(f"give {ways}; this has {given}", exits.USAGE)
    return Reals(network.input.size)


class Balls:
    """The balls of a batch, around the rows of a file; where there can be none, the reason."""

    def __init__(
        self, network: Network, centers: str, radius: float, ball_norm: str, clip: str | None
    ) -> None:
        self.rows = _read_rows(centers, network)
        self._radius = radius
        self._norm = ball_norm
        self._clip = _read_clip(clip)
        if not (radius > 0 and np.isfinite(radius)):
            fail(f"--radius must be positive and finite, not {radius}", exits.USAGE)
        if ball_norm not in ("linf", "l1"):
            fail(f"--ball-norm is linf or l1, not {ball_norm}", exits.USAGE)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Domain | DomainError]:
        for row in self.rows:
            try:
                ball: Domain | DomainError = Ball(row, self._radius, self._norm, self._clip)
            except DomainError as error:
                ball = error
            yield ball


def _read_rows(centers: str, network: Network) -> npt.NDArray[np.float64]:
    """Read the centres of a batch, shape (k, d), which has one row for each."""
    rows = read_numbers(centers, "--centers")
    shape = network.input_shape
    size = network.input.size
    if not rows.size:
        raise DomainError("--centers: there is no centre in the file")
    wanted = _long_axes(shape)
    if rows.size == size and (rows.ndim <= 1 or _long_axes(rows.shape) == wanted):
        rows = rows[None]  # the only one
    axes = _long_axes(rows.shape[1:])
    is_flat = axes in ([size], []) and int(np.prod(axes)) == size
    if not (is_flat or axes == wanted):
        raise DomainError(
            f"--centers: an array of shape {rows.shape} where the network's input has the shape "
            f"{shape}: a row for each centre"
        )
    return rows.reshape(len(rows), -1)


def _long_axes(shape: tuple[int, ...]) -> list[int]:
    """Return the lengths of all axes but those of length 1."""
    return [length for length in shape if length > 1]


def _read_clip(clip: str | None) -> tuple[float, float] | None:
    """Return the two numbers of --clip; None where it is not given."""
    if clip is None:
        return None
    limits = read_numbers(clip, "--clip")
    if limits.size != 2:
        fail(f"--clip takes two numbers LO,HI, not {limits.size}", exits.USAGE)
    return limits.flat[0], limits.flat[1]


def _point(text: str, network: Network, what: str) -> npt.NDArray[np.float64]:
    """Return a point of the network's input space, shape (d,)."""
    numbers = read_numbers(text, what)
    shape = network.input_shape
    if numbers.size == 1:
        return np.full(network.input.size, numbers.flat[0])
    axes = _long_axes(numbers.shape)
    # Pixels of shape (32, 32, 3) are not those of a network that takes (3, 32, 32).
    if numbers.size != network.input.size or (len(axes) > 1 and axes != _long_axes(shape)):
        count = f"{numbers.size} numbers"
        given = count if numbers.ndim == 1 else f"an array of shape {numbers.shape}"
        raise DomainError(f"{what}: {given} where the network's input has the shape {shape}")
    return numbers.ravel()


def read_functional(text: str | None) -> Functional:
    """Return the functional that --functional describes; None for the whole output."""
    if text is None:
        return None
    name, colon, label = text.partition(":")
    try:
        if name == "cross":
            return CrossLipschitz(int(label) if colon else None)
        return int(text)
    except ValueError:
        if name == "cross":
            fail(f"--functional {text}: a label is an output's index", exits.USAGE)
        numbers = read_numbers(text, "--functional")
        # A table with one row or one column is a vector.
        return numbers.ravel() if 1 in numbers.shape else numbers


def read_option(text: str, what: str = "--solver-option") -> tuple[str, Any]:
    """Return the name and the value of NAME=VALUE: a number, true or false, else text."""
    name, equals, value = text.partition("=")
    if not (name and equals):
        fail(f"{what} takes NAME=VALUE, not {text!r}", exits.USAGE)
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def read_numbers(text: str, what: str) -> npt.NDArray[np.float64]:
    """Return numbers as they stand, or those of a file in the shape that they have there."""
    kind = Path(text).suffix.lower()
    if kind not in (".npy", ".csv"):
        try:
            return np.array([float(entry) for entry in text.split(",")])
        except ValueError as error:
            fail(f"{what} takes {NUMBERS_HELP}: {error}", exits.USAGE)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            array = _read_npy(text) if kind == ".npy" else _read_csv(text)
    except (ValueError, EOFError) as error:
        told = f"{what}: '{text}' is not a {kind} file of numbers alone: {error}"
        raise DomainError(told) from None
    if array.size == 0:
        raise DomainError(f"{what}: '{text}' is not a {kind} file of numbers alone: it is empty")
    return array


def _read_npy(path: str) -> npt.NDArray[np.float64]:
    with Path(path).open("rb") as stream:
        array = np.load(stream, allow_pickle=False)
    if not isinstance(array, np.ndarray):
        raise ValueError("it holds several arrays")
    if array.dtype.kind not in "fiub":
        raise ValueError(f"its entries are of type {array.dtype}")
    return array.astype(np.float64)


def _read_csv(path: str) -> npt.NDArray[np.float64]:
    with Path(path).open(encoding="utf-8-sig") as stream:
        return np.loadtxt(stream, delimiter=",", dtype=np.float64)
