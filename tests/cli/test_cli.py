"""The command line: what it prints where, and its exit codes."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

import lipexact as lx
from lipexact.cli import app as cli
from lipexact.cli import progress
from lipexact.mip.solvers.base import solver_names
from lipexact.options import Options
from lipexact.state import Progress
from tests.support.executors import PickledTasks
from tests.support.networks import random_weights
from tests.support.onnx_files import onnx_model, pytorch_mlp
from tests.support.paths import ROOT

# A console's colours and width are no matter of these tests.
PLAIN = {
    name: text
    for name, text in os.environ.items()
    if not re.search(r"COLOR|^GITHUB_ACTIONS$|^COLUMNS$|^LINES$", name)
}


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    for name in set(os.environ) - set(PLAIN):
        monkeypatch.delenv(name)


@pytest.fixture
def run():
    """Run a command line in this process."""

    def invoke(*arguments, code=0):
        result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
        assert result.exit_code == code, result.output
        assert result.exception is None or isinstance(result.exception, SystemExit)
        assert "\x1b" not in result.output
        return result

    return invoke


@pytest.fixture
def fails(run):
    """Run a command line that must end with one line on stderr and this code."""

    def invoke(*arguments, code=1):
        result = run(*arguments, code=code)
        assert result.stdout == ""
        assert re.fullmatch(r"lipexact: error: [^\n]+\n", result.stderr), result.stderr
        assert "Traceback" not in result.stderr
        return result.stderr

    return invoke


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("with space and [brackets]")


@pytest.fixture(scope="module")
def model(folder):
    """Four inputs of shape (1, 4), two outputs."""
    path = folder / "a model.onnx"
    onnx.save_model(pytorch_mlp(np.random.default_rng(0), (4, 5, 4, 2)), path)
    return path


@pytest.fixture(scope="module")
def image(folder):
    """An input of shape (1, 28, 28), one output."""
    path = folder / "image.onnx"
    weights = np.random.default_rng(0).normal(size=(1, 784)).astype(np.float32)
    onnx.save_model(
        onnx_model(
            "(float[N,1,28,28] x) => (float[N,1] y) { f = Flatten (x)\n "
            "z = Gemm <transB = 1> (f, W)\n h = Relu (z)\n y = Gemm <transB = 1> (h, V) }",
            {"W": weights, "V": np.ones((1, 1), np.float32)},
        ),
        path,
    )
    return path


@pytest.fixture(scope="module")
def hard(folder):
    """A network that no solver finishes within seconds."""
    path = folder / "hard.onnx"
    weights = random_weights(np.random.default_rng(0), (8, 24, 24, 24, 1))
    constants = {
        f"{name}{k}": array
        for k, pair in enumerate(weights)
        for name, array in zip("Wb", pair, strict=True)
    }
    body = "\n".join(
        f"z{k} = Gemm <transB = 1> ({f'h{k - 1}' if k else 'x'}, W{k}, b{k})\n h{k} = Relu (z{k})"
        for k in range(3)
    )
    text = f"(double[N,8] x) => (double[N,1] y) {{ {body}\n y = Gemm <transB = 1> (h2, W3, b3) }}"
    onnx.save_model(onnx_model(text, constants), path)
    return path


def process(*arguments, **options):
    """Run a command line in a process of its own."""
    command = [sys.executable, "-m", "lipexact", *map(str, arguments)]
    options = {"env": PLAIN, "capture_output": True, "text": True, "timeout": 300} | options
    return subprocess.run(command, check=False, **options)


def solved(result) -> dict:
    """The JSON on stdout; nothing else may be there, or on stderr."""
    assert result.stderr == ""
    return json.loads(result.stdout, parse_constant=pytest.fail)


# --- solve


def test_solve_prints_a_short_table(run, model):
    result = run("solve", model, "--center", 0.5, "--radius", 0.1, "--functional", 0)
    known = lx.lipschitz(model, lx.Ball([0.5] * 4, 0.1), functional=0)
    lines = result.stdout.splitlines()
    assert 4 <= len(lines) <= 10
    assert f"model               {model}" in lines
    assert any(line.startswith("status              EXACT") for line in lines)
    assert f"Lipschitz constant  {known.value:.12g}" in lines
    assert result.stderr == ""


def test_solve_as_json(run, model):
    result = run(
        "solve", model, "--lower", 0, "--upper", 1, "--functional", "1,-1", "--norm", "l1", "--json"
    )
    known = lx.lipschitz(model, lx.Box.unit(4), functional=[1, -1], input_norm="l1")
    printed = solved(result)
    assert printed["status"] == "EXACT"
    assert printed["value"] == known.value
    assert set(printed) == set(known.to_dict())
    assert printed["witness"]["functional"] == [1, -1]


def test_everywhere(run, model):
    printed = json.loads(run("solve", model, "--everywhere", "--functional", 0, "--json").stdout)
    assert printed["value"] == lx.lipschitz(model, lx.Reals(4), functional=0).value
    result = run("solve", model, "--everywhere", "--center", 0, "--radius", 1, code=2)
    assert "--everywhere" in result.stderr


@pytest.mark.parametrize(
    ("box", "lower", "upper"),
    [
        (["--lower", "-1", "--upper", "1"], [-1] * 4, [1] * 4),
        (["--lower=-1", "--upper=-0.5"], [-1] * 4, [-0.5] * 4),
        (["--lower", "-1,-2,-3,-4", "--upper", "0"], [-1, -2, -3, -4], [0] * 4),
        (["--lower", "-.5,0,0,-1e-1", "--upper", "1,1,1,1"], [-0.5, 0, 0, -0.1], [1] * 4),
        (["--center", "-0.5", "--radius", "0.25"], [-0.75] * 4, [-0.25] * 4),
        (
            ["--center", "-0.5,0,0,0.5", "--radius", "1", "--clip", "-1,1"],
            [-1, -1, -1, -0.5],
            [0.5, 1, 1, 1],
        ),
        (["--center", "0", "--radius", "1", "--clip", "-inf,0.5"], [-1] * 4, [0.5] * 4),
    ],
)
def test_boxes_and_balls_from_numbers(run, model, box, lower, upper):
    printed = solved(run("solve", model, *box, "--functional", 0, "--json"))
    assert printed["value"] == lx.lipschitz(model, lx.Box(lower, upper), functional=0).value


@pytest.mark.parametrize(
    ("text", "functional"),
    [
        ("0", 0),
        ("1", 1),
        ("-1", -1),
        ("-2", -2),
        ("-1,1", [-1, 1]),
        ("0.5,-1e-3", [0.5, -1e-3]),
        ("1,0", [1, 0]),
    ],
)
def test_functionals(run, model, text, functional):
    known = lx.lipschitz(model, lx.Box.unit(4), functional=functional).value
    for given in (["--functional", text], [f"--functional={text}"]):
        printed = solved(run("solve", model, "--lower", 0, "--upper", 1, *given, "--json"))
        assert printed["value"] == known


@pytest.mark.parametrize(
    "name",
    ["lower.npy", "LOWER.NPY", "lower.csv", "column.csv", "bom.csv", "one.npy", "integer.npy"],
)
def test_a_box_from_files(run, model, folder, name):
    path = folder / name
    lower = np.array([-1.0, -0.5, 0.0, 0.25])
    match name:
        case "one.npy":
            lower = np.zeros(4)
            np.save(path, np.zeros(()))
        case "integer.npy":
            lower = np.array([-1, 0, 0, -2])
            np.save(path, lower.reshape(1, 4))
        case "lower.csv":
            path.write_text(",".join(map(str, lower)) + "\n")
        case "column.csv":
            path.write_text("\n".join(map(str, lower)))
        case "bom.csv":
            path.write_text("\ufeff" + ", ".join(map(str, lower)), encoding="utf-8")
        case _:
            with path.open("wb") as stream:
                np.save(stream, lower)
    printed = solved(
        run("solve", model, "--lower", path, "--upper", 1, "--functional", 0, "--json")
    )
    assert printed["value"] == lx.lipschitz(model, lx.Box(lower, np.ones(4)), functional=0).value


def test_a_functional_from_a_file(run, model, folder):
    np.save(folder / "functional.npy", np.array([[2.0], [-1.0]]))
    printed = solved(
        run(
            "solve",
            model,
            "--lower",
            0,
            "--upper",
            1,
            "--functional",
            folder / "functional.npy",
            "--json",
        )
    )
    assert printed["value"] == lx.lipschitz(model, lx.Box.unit(4), functional=[2, -1]).value


@pytest.mark.parametrize("shape", [(1, 28, 28), (784,)])
def test_an_image_as_centre(run, image, folder, shape):
    pixels = np.random.default_rng(1).uniform(size=784)
    np.save(folder / "pixels.npy", pixels.reshape(shape))
    printed = solved(
        run(
            "solve",
            image,
            "--center",
            folder / "pixels.npy",
            "--radius",
            0.01,
            "--clip",
            "0,1",
            "--json",
        )
    )
    known = lx.lipschitz(image, lx.Ball(pixels, 0.01, clip=(0, 1)))
    assert printed["value"] == known.value


def test_an_image_in_a_table_and_a_number_for_the_other_corner(run, image, folder):
    np.savetxt(folder / "image.csv", np.full((28, 28), 0.01), delimiter=",")
    printed = solved(run("solve", image, "--lower", 0, "--upper", folder / "image.csv", "--json"))
    assert printed["value"] == lx.lipschitz(image, lx.Box(np.zeros(784), np.full(784, 0.01))).value


@pytest.mark.parametrize("shape", [(4, 196), (28, 28, 2), (783,), (785,), (2,), (27, 28)])
def test_an_array_of_another_shape(fails, image, folder, shape):
    np.save(folder / "other.npy", np.zeros(shape))
    assert "(1, 28, 28)" in fails("solve", image, "--center", folder / "other.npy", "--radius", 1)


@pytest.mark.parametrize("mode", ["forward", "reverse"])
@pytest.mark.parametrize("solver", ["highs", "scip"])
def test_solvers_and_modes(run, model, solver, mode):
    how = ("--solver", solver, "--mode", mode, "--threads", 1, "--time-limit", 60, "--gap", 1e-3)
    box = ("--lower", -3, "--upper", 3)  # on [0, 1] the first bounds are enough, without a solver
    printed = solved(run("solve", model, *box, "--functional", 0, "--json", *how))
    assert (printed["solver"], printed["mode"]) == (solver, mode)
    assert printed["gap"] <= 1e-3


# --- Exit codes


def test_a_limit_leaves_an_interval_and_code_3(run, hard):
    options = ["--lower", -1, "--upper", 1, "--time-limit", 0.001]
    result = run("solve", hard, *options, code=3)
    assert re.search(r"^interval +\[\d\S*, \d\S*\], gap \d", result.stdout, re.MULTILINE)
    assert re.search(r"^status +BOUNDED \(time limit", result.stdout, re.MULTILINE)
    printed = solved(run("solve", hard, *options, "--json", code=3))
    assert 0 < printed["lower"] < printed["upper"]


def test_within_the_gap_is_code_0(run, hard):
    result = run("solve", hard, "--lower", -1, "--upper", 1, "--gap", 0.9999)
    assert re.search(r"^status +BOUNDED \(gap", result.stdout, re.MULTILINE)


@pytest.mark.parametrize("command", ["solve", "info"])
@pytest.mark.parametrize("name", ["missing.onnx", "", ".", "empty.onnx", "text.onnx", "table.csv"])
def test_a_model_that_cannot_be_read(fails, folder, command, name):
    path = folder / name if name else name
    if name not in ("missing.onnx", "", "."):
        path.write_text({"empty.onnx": "", "text.onnx": "hello\nworld"}.get(name, "1,2"))
    fails(command, path, *(["--lower", 0, "--upper", 1] if command == "solve" else []))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--center", "0,0", "--radius", 1], "2 numbers"),
        (["--lower", "0,0,0", "--upper", "1,1,1"], "3 numbers"),
        (["--lower", 1, "--upper", 0], "empty"),
        (["--lower", 1, "--upper", 1], "flat"),
        (["--lower", "nan", "--upper", 1], "NaN"),
        (["--lower", "-inf", "--upper", 1], "infinite"),
        (["--center", "nan", "--radius", 1], "NaN"),
        (["--center", 0, "--radius", -1], "positive"),
        (["--center", 0, "--radius", 0], "positive"),
        (["--center", 0, "--radius", "inf"], "positive"),
        (["--center", 0, "--radius", 1, "--clip", "2,3"], "empty"),
        (["--center", 0, "--radius", 1, "--clip", "1,2"], "flat"),
        (["--lower", 0, "--upper", 1, "--functional", "2"], "2"),
        (["--lower", 0, "--upper", 1, "--functional", "1,2,3"], "(3,)"),
        (["--lower", 0, "--upper", 1, "--functional", "nan,1"], "NaN"),
        (["--lower", 0, "--upper", 1, "--norm", "l7"], "l7"),
        (["--center", "nowhere.npy", "--radius", 1], "nowhere.npy"),
        (["--center", "nowhere.csv", "--radius", 1], "nowhere.csv"),
    ],
)
def test_what_does_not_fit_is_code_1(fails, model, arguments, words):
    given = [] if "--functional" in arguments else ["--functional", 0]
    assert words in fails("solve", model, *arguments, *given)


def test_the_whole_output_in_a_norm(run, model):
    for output_norm in ("linf", "l1"):
        printed = solved(
            run("solve", model, "--lower", 0, "--upper", 1, "--output-norm", output_norm, "--json")
        )
        assert (
            printed["value"] == lx.lipschitz(model, lx.Box.unit(4), output_norm=output_norm).value
        )


@pytest.mark.parametrize(("text", "label"), [("cross", None), ("cross:1", 1), ("cross:-1", -1)])
def test_cross_lipschitz(run, model, text, label):
    printed = solved(
        run("solve", model, "--lower", 0, "--upper", 1, "--functional", text, "--json")
    )
    assert (
        printed["value"]
        == lx.lipschitz(model, lx.Box.unit(4), functional=lx.CrossLipschitz(label)).value
    )


@pytest.mark.parametrize("text", ["cross:", "cross:first", "cross:2", "cross:0.5"])
def test_a_label_that_is_no_output(fails, model, text):
    code = 1 if text == "cross:2" else 2
    fails("solve", model, "--lower", 0, "--upper", 1, "--functional", text, code=code)


def test_several_functionals_from_a_file(run, model, folder):
    rows = np.array([[1.0, 0.0], [1.0, -1.0], [0.0, 2.0]])
    np.savetxt(folder / "rows.csv", rows, delimiter=",")
    printed = solved(
        run(
            "solve",
            model,
            "--lower",
            0,
            "--upper",
            1,
            "--functional",
            folder / "rows.csv",
            "--json",
        )
    )
    assert printed["value"] == lx.lipschitz(model, lx.Box.unit(4), functional=rows).value


def test_a_ball_in_l1(run, model):
    printed = solved(
        run(
            "solve",
            model,
            "--center",
            0.5,
            "--radius",
            0.5,
            "--ball-norm",
            "l1",
            "--norm",
            "l1",
            "--json",
        )
    )
    assert (
        printed["value"]
        == lx.lipschitz(model, lx.Ball([0.5] * 4, 0.5, "l1"), input_norm="l1").value
    )


def test_a_target(run, model):
    known = lx.lipschitz(model, lx.Box.unit(4), functional=0).value
    arguments = ("solve", model, "--lower", 0, "--upper", 1, "--functional", 0)
    assert f"at most {2 * known:.12g}" in run(*arguments, "--target", 2 * known).stdout
    assert f"above {known / 2:.12g}" in run(*arguments, "--target", known / 2).stdout


def test_the_linear_relaxation(run, hard):
    result = run("solve", hard, "--lower", -1, "--upper", 1, "--method", "lp")
    assert "0 binaries" in result.stdout
    assert "relaxation" in result.stdout


def test_options_of_the_solver(run, fails, model):
    arguments = ("solve", model, "--lower", 0, "--upper", 1, "--functional", 0)
    run(*arguments, "--solver-option", "presolve=off", "--solver-option", "random_seed=3")
    fails(*arguments, "--solver-option", "presolve", code=2)


@pytest.fixture(scope="module")
def several(folder):
    """Two inputs of three entries, outputs q, of both, and p, a Softmax of a's logits l."""
    path = folder / "several.onnx"
    text = """(double[N,3] a, double[N,3] b) => (double[N,3] q, double[N,3] p) {
        l = MatMul (a, W)
        s = Add (l, b)
        q = Relu (s)
        p = Softmax (l)
    }"""
    onnx.save_model(onnx_model(text, {"W": np.diag([1.0, 2.0, 3.0])}), path)
    return path


@pytest.mark.parametrize(
    ("options", "value"),
    [
        (["--output", "p", "--drop-final"], 3.0),
        (["--output", "l"], 3.0),
        (["--output", "q", "--input", "a", "--fix", "b=0,0,0"], 3.0),
        (["--output", "q", "--fix", "b=9,9,-9"], 2.0),
        (["--output", "q", "--fix", "a=1,1,1"], 1.0),
        (["--output", "q", "--fix", "a=1"], 1.0),
    ],
)
def test_inputs_and_outputs_by_name(run, several, options, value):
    solved = json.loads(
        run("solve", several, "--lower", 0, "--upper", 1, "--json", *options).stdout
    )
    assert solved["value"] == pytest.approx(value)
    assert json.loads(run("info", several, "--json", *options).stdout)["input_shape"] == [3]


def test_inputs_and_outputs_that_do_not_fit(fails, several):
    assert "output='q'" in fails("info", several)
    assert "NAME=" in fails("info", several, "--output", "q", "--fix", "b", code=2)
    assert "'z'" in fails("info", several, "--output", "q", "--fix", "z=1,2,3")
    assert "twice" in fails(
        "info", several, "--output", "q", "--fix", "b=1", "--fix", "b=2", code=2
    )
    assert "--drop-final" in fails("info", several, "--output", "p")
    assert "known length" in fails("info", several, "--output", "l", "--no-batch-axis")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--center"),
        (["--center", 0], "--radius"),
        (["--radius", 1], "--center"),
        (["--lower", 0], "--upper"),
        (["--upper", 0], "--lower"),
        (["--clip", "0,1"], "--center"),
        (["--lower", 0, "--upper", 1, "--clip", "0,1"], "--clip"),
        (["--lower", 0, "--upper", 1, "--radius", 1], "--radius"),
        (["--center", 0, "--radius", 1, "--upper", 1], "--upper"),
        (["--center", "a,b", "--radius", 1], "--center"),
        (["--center", "0,,0,0", "--radius", 1], "--center"),
        (["--center", "", "--radius", 1], "--center"),
        (["--center", 0, "--radius", "wide"], "--radius"),
        (["--center", 0, "--radius", 1, "--clip", 1], "--clip"),
        (["--center", 0, "--radius", 1, "--clip", "0,1,2"], "--clip"),
        (["--center", 0, "--radius"], "--radius"),
        (["--lower", 0, "--upper", 1, "--functional", "first"], "--functional"),
        (["--lower", 0, "--upper", 1, "--solver", "abacus"], "abacus"),
        (["--lower", 0, "--upper", 1, "--mode", "sideways"], "sideways"),
        (["--lower", 0, "--upper", 1, "--time-limit", 0], "time_limit"),
        (["--lower", 0, "--upper", 1, "--time-limit", "nan"], "time_limit"),
        (["--lower", 0, "--upper", 1, "--time-limit", "soon"], "--time-limit"),
        (["--lower", 0, "--upper", 1, "--gap", -1], "gap"),
        (["--lower", 0, "--upper", 1, "--threads", 0], "threads"),
        (["--lower", 0, "--upper", 1, "--threads", 1.5], "--threads"),
        (["--lower", 0, "--upper", 1, "--bogus"], "--bogus"),
        (["--lower", 0, "--upper", 1, "another"], "another"),
    ],
)
def test_a_wrong_command_line_is_code_2(fails, model, arguments, words):
    given = [] if "--functional" in arguments else ["--functional", 0]
    assert words in fails("solve", model, *given, *arguments, code=2)


def test_an_unknown_command_and_a_missing_model(fails):
    assert "compute" in fails("compute", code=2)
    assert "model" in fails("solve", code=2).lower()
    assert "model" in fails("info", code=2).lower()
    assert "--bogus" in fails("--bogus", code=2)


def test_files_that_hold_no_numbers(fails, model, folder):
    def refuse(name, *words):
        message = fails("solve", model, "--center", folder / name, "--radius", 1, "--functional", 0)
        assert all(word in message for word in (name, *words)), message

    np.save(folder / "objects.npy", np.array([{}, None, 1, 2], dtype=object), allow_pickle=True)
    refuse("objects.npy", "pickle")
    np.save(folder / "texts.npy", np.array(["a", "b", "c", "d"]))
    refuse("texts.npy", "<U1")
    np.save(folder / "complex.npy", np.ones(4, complex))
    refuse("complex.npy", "complex")
    np.save(folder / "nothing.npy", np.zeros((0, 4)))
    refuse("nothing.npy", "empty")
    with (folder / "archive.npy").open("wb") as stream:
        np.savez(stream, a=np.zeros(4))
    refuse("archive.npy", "several")
    (folder / "text.npy").write_text("1,2,3,4")
    refuse("text.npy")
    (folder / "cut.npy").write_bytes((folder / "complex.npy").read_bytes()[:-9])
    refuse("cut.npy")
    (folder / "empty.npy").write_bytes(b"")
    refuse("empty.npy")
    (folder / "header.csv").write_text("a,b,c,d\n1,2,3,4\n")
    refuse("header.csv", "'a'")
    (folder / "semicolons.csv").write_text("1;2;3;4\n")
    refuse("semicolons.csv")
    (folder / "ragged.csv").write_text("1,2\n3\n")
    refuse("ragged.csv")
    (folder / "empty.csv").write_text("")
    refuse("empty.csv", "empty")
    (folder / "binary.csv").write_bytes(b"\xff\xfe\0\1")
    refuse("binary.csv")
    (folder / "folder.csv").mkdir()
    refuse("folder.csv", "directory")
    (folder / "folder.npy").mkdir()
    refuse("folder.npy", "directory")


def test_a_pickle_is_not_run(fails, model, folder, tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    np.save(folder / "trap.npy", np.array([Trap()] * 4, dtype=object), allow_pickle=True)
    fails("solve", model, "--center", folder / "trap.npy", "--radius", 1, "--functional", 0)
    assert not (tmp_path / "sprung").exists()


def test_a_solver_that_is_not_there(fails, model, monkeypatch):
    def missing(*_, **__):
        raise lx.SolverUnavailableError(
            "the solver 'cbc' is not available here:\napt-get install coinor-cbc"
        )

    monkeypatch.setattr(cli, "lipschitz", missing)
    assert "apt-get install" in fails("solve", model, "--lower", 0, "--upper", 1)


def test_out_of_memory_is_one_line(fails, model, monkeypatch):
    def greedy(*_, **__):
        raise MemoryError

    monkeypatch.setattr(cli, "lipschitz", greedy)
    assert "memory" in fails("solve", model, "--lower", 0, "--upper", 1)


# --- estimate and compare

BALL = ("--center", 0.5, "--radius", 0.1)


@pytest.fixture
def centers(folder):
    path = folder / "centers.npy"
    np.save(path, np.random.default_rng(0).normal(size=(5, 4)))
    return path


@pytest.fixture
def in_process(monkeypatch):
    """Let batches do their tasks in this process: others take seconds to start."""

    def batch(*arguments, jobs, **options):
        return lx.lipschitz_many(*arguments, executor=PickledTasks(), **options)

    monkeypatch.setattr(cli, "lipschitz_many", batch)


@pytest.mark.slow
def test_batch(run, fails, model, centers, tmp_path):
    out = tmp_path / "results.jsonl"
    asked = (
        "batch",
        model,
        "--centers",
        centers,
        "--radius",
        0.25,
        "--out",
        out,
        "--functional",
        0,
        "--jobs",
        1,
    )
    told = run(*asked)
    rows = dict(re.split("  +", line, maxsplit=1) for line in told.stdout.splitlines())
    assert (rows["domains"], rows["exact"], rows["open"], rows["failed"]) == ("5", "5", "0", "0")
    alone = [
        lx.lipschitz(model, lx.Ball(row, 0.25), functional=0).value for row in np.load(centers)
    ]
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert {line["index"]: line["result"]["value"] for line in lines[1:]} == dict(enumerate(alone))
    assert f"median: {np.median(alone):.6g}" in rows["constants"]
    assert "there already: give --resume" in fails(*asked, code=2)
    before = out.read_bytes()
    facts = json.loads(run(*asked, "--resume", "--json").stdout)
    assert (facts["domains"], facts["exact"], facts["from_the_file"]) == (5, 5, 5)
    assert facts["constants"]["largest"] == max(alone)
    assert out.read_bytes() == before
    assert "another question" in fails(*asked[:-4], "--functional", 1, "--resume")


def test_batch_of_points_that_are_none(run, in_process, model, folder, tmp_path):
    rows = np.random.default_rng(0).normal(size=(3, 4))
    rows[1, 2] = np.nan
    np.save(folder / "holes.npy", rows)
    asked = "batch", model, "--centers", folder / "holes.npy", "--radius", 0.25, "--jobs", 1
    facts = json.loads(
        run(*asked, "--out", tmp_path / "a.jsonl", "--json", "--quiet", code=1).stdout
    )
    assert (facts["exact"], facts["failed"]) == (2, 1)
    assert facts["first_failure"].startswith(
        "1: DomainError: the ball's centre is NaN in coordinate 2"
    )


def test_batch_writes_certificates(run, in_process, model, centers, tmp_path):
    proofs = tmp_path / "proofs"
    proofs.mkdir()
    asked = "batch", model, "--centers", centers, "--radius", 0.25, "--jobs", 1, "--functional", 0
    run(*asked, "--out", tmp_path / "a.jsonl", "--certificates", proofs)
    run("check", model, proofs / "000004.lxc")


def test_batch_leaves_intervals_with_code_3(run, in_process, hard, tmp_path):
    sizes = lx.load(hard).input.size
    np.save(tmp_path / "centers.npy", np.zeros((1, sizes)))
    asked = (
        "batch",
        hard,
        "--centers",
        tmp_path / "centers.npy",
        "--radius",
        1,
        "--time-limit",
        0.3,
        "--jobs",
        1,
    )
    facts = json.loads(run(*asked, "--out", tmp_path / "a.jsonl", "--json", code=3).stdout)
    assert (facts["exact"], facts["open"], facts["constants"]) == (0, 1, None)
    assert facts["largest_gap"] > 0


@pytest.mark.parametrize("shape", [(2, 28, 28), (2, 784), (28, 28), (1, 1, 28, 28)])
def test_batch_of_images(run, in_process, image, folder, tmp_path, shape):
    np.save(folder / "images.npy", np.random.default_rng(0).random(shape))
    asked = "batch", image, "--centers", folder / "images.npy", "--radius", 0.01, "--jobs", 1
    facts = json.loads(run(*asked, "--out", tmp_path / "a.jsonl", "--json").stdout)
    assert facts["exact"] == (2 if shape[0] == 2 else 1)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--radius", "0"], 2, "--radius must be positive"),
        (["--radius", "nan"], 2, "--radius must be positive"),
        (["--radius", "1", "--ball-norm", "l2"], 2, "--ball-norm is linf or l1"),
        (["--radius", "1", "--clip", "0"], 2, "--clip takes two numbers"),
        (["--radius", "1", "--jobs", "0"], 2, "jobs must be a positive integer"),
        (["--radius", "1", "--certificates", "/no/folder"], 2, "no folder"),
        (["--radius", "1", "--norm", "l3"], 1, "unknown norm"),
        (["--radius", "1", "--centers", "1,2,3"], 1, "a row for each centre"),
        (["--radius", "1", "--centers", "none.npy"], 1, "No such file"),
        (["--radius", "1", "--out", "/no/folder/a.jsonl"], 1, "cannot be opened"),
    ],
)
def test_batches_that_are_refused(fails, model, centers, tmp_path, options, code, words):
    asked = {"--centers": centers, "--out": tmp_path / "a.jsonl"} | dict(
        zip(options[::2], options[1::2], strict=True)
    )
    assert words in fails(
        "batch", model, *[part for each in asked.items() for part in each], code=code
    )


def test_progress_of_a_batch_goes_to_stderr(run, in_process, model, centers, tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    asked = "batch", model, "--centers", centers, "--radius", 0.25, "--jobs", 1
    told = run(*asked, "--out", tmp_path / "a.jsonl")
    assert "5 of 5 done" in told.stderr
    assert run(*asked, "--out", tmp_path / "b.jsonl", "--quiet").stderr == ""


def test_estimate_prints_what_it_promises(run, model):
    found = lx.estimate(model, lx.Ball([0.5] * 4, 0.1), "linear", functional=0)
    result = run("estimate", model, *BALL, "--functional", 0, "--method", "linear")
    assert f"value      {found.value:.12g}" in result.stdout.splitlines()
    assert "guarantee  an upper bound (scope: local; proof: float)" in result.stdout.splitlines()
    assert result.stderr == ""
    best = run("estimate", model, *BALL, "--functional", 0).stdout
    assert re.search(r"^upper bounds +linear: \d", best, re.MULTILINE)
    assert re.search(r"^refused +eclipse-fast: ", best, re.MULTILINE)


def test_estimate_as_json(run, model):
    options = ("--option", "batches=3", "--option", "samples=10")
    printed = solved(run("estimate", model, *BALL, "--method", "clever", *options, "--json"))
    assert printed["method"] == "clever"
    assert printed["guarantee"] == "heuristic"
    assert printed["details"]["batches"] == 3
    everywhere = solved(
        run("estimate", model, "--everywhere", "--norm", "l2", "--method", "lipsdp", "--json")
    )
    assert everywhere["value"] == pytest.approx(
        lx.estimate(model, lx.Reals(4), "lipsdp", input_norm="l2").value
    )


def test_estimates_that_are_refused(fails, model):
    assert "no estimator" in fails("estimate", model, *BALL, "--method", "magic", code=2)
    assert "no option 'x'" in fails(
        "estimate", model, *BALL, "--method", "naive", "--option", "x=1", code=2
    )
    assert "--option takes NAME=VALUE" in fails("estimate", model, *BALL, "--option", "x", code=2)
    assert "input norm must be l2" in fails("estimate", model, *BALL, "--method", "lipsdp")


def test_compare_prints_a_table(run, model):
    methods = ("--methods", "sampling, fastlip,lipsdp,exact")
    result = run("compare", model, *BALL, *methods)
    exact = lx.lipschitz(model, lx.Ball([0.5] * 4, 0.1)).value
    assert f"Lipschitz constant {exact:.9g}." in result.stdout
    assert [
        row for row in ("sampling", "fastlip", "lipsdp", "exact") if row in result.stdout
    ] == result.stderr.split()
    assert "lipsdp: lipsdp takes l2" in " ".join(result.stdout.split())
    assert max(map(len, result.stdout.splitlines())) <= 140
    quiet = run("compare", model, *BALL, *methods, "--markdown", "--quiet")
    assert quiet.stderr == ""
    assert quiet.stdout.startswith("| Estimator | Guarantee |")
    printed = solved(run("compare", model, *BALL, *methods, "--json", "--quiet"))
    assert printed["closed"] is True
    assert [row["method"] for row in printed["rows"]] == ["sampling", "fastlip", "lipsdp", "exact"]


@pytest.mark.slow
def test_compare_draws_a_picture(run, model, folder):
    import matplotlib as mpl

    mpl.use("Agg")
    picture = folder / "errors.png"
    run("compare", model, *BALL, "--methods", "fastlip,exact", "--quiet", "--plot", picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    import matplotlib.pyplot as plt

    plt.close("all")


def test_comparisons_that_are_refused(fails, model, folder):
    assert "no estimator" in fails("compare", model, *BALL, "--methods", "magic", code=2)
    assert "positive number" in fails(
        "compare", model, *BALL, "--methods", "naive", "--time-limit", 0, code=2
    )
    where = folder / "no" / "errors.png"
    assert "--plot" in fails("compare", model, *BALL, "--methods", "naive", "--plot", where, code=2)
    assert "--plot" in fails(
        "compare", model, *BALL, "--methods", "naive", "--plot", folder / "errors.xyz", code=2
    )


# --- info, version, help


def test_info(run, model):
    result = run("info", model)
    facts = dict(re.split(r"  +", line, maxsplit=1) for line in result.stdout.splitlines())
    assert facts["model"] == str(model)
    assert facts["input shape"] == "1, 4"
    assert facts["output shape"] == "2"
    assert facts["gates"] == "5, 4"
    assert facts["relus"] == "9"
    assert facts["parameters"] == str(5 * 5 + 4 * 6 + 2 * 5)
    assert "highs" in facts["solvers"]


def test_info_as_json(run, model):
    printed = solved(run("info", model, "--json"))
    assert printed["model"] == str(model)
    assert printed["input_shape"] == [1, 4]
    assert printed["relus"] == 9
    assert set(printed["solvers"]) <= set(solver_names())


def test_info_of_a_network_without_neurons(run, folder):
    onnx.save_model(
        onnx_model("(float[2] x) => (float[2] y) { y = Identity (x) }"), folder / "identity.onnx"
    )
    assert re.search(r"^gates +none$", run("info", folder / "identity.onnx").stdout, re.MULTILINE)


def test_version(run):
    assert run("--version").stdout == f"lipexact {lx.__version__}\n"


def test_the_help_names_every_solver(run):
    told = " ".join(run("solve", "--help").stdout.split())
    assert all(name in told for name in solver_names())


@pytest.mark.parametrize("command", ["solve", "batch"])
def test_every_option_of_a_solve_is_an_option_of_the_command_line(run, command):
    told = run(command, "--help").stdout
    flags = {f"--{each.name.replace('_', '-')}" for each in dataclasses.fields(Options)}
    flags = flags - {"--solver-options"} | {"--solver-option"}
    assert all(re.search(rf"{flag}\b", told) for flag in flags)


@pytest.mark.parametrize("arguments", [["--help"], ["solve", "--help"], ["info", "--help"]])
def test_help(run, arguments):
    result = run(*arguments)
    assert "lipexact" in result.stdout
    assert result.stderr == ""


def test_nothing_at_all_shows_the_help(run):
    assert "solve" in run(code=2).stdout


# --- Progress


@pytest.fixture
def slow(monkeypatch):
    """A search of 35 seconds, reported every half a second."""
    real = cli.lipschitz

    def report(*arguments, progress, **options):
        for tick in range(1, 71):
            progress(Progress(tick / 2, 1.0, 2.0, tick))
        return real(*arguments, **options)

    monkeypatch.setattr(cli, "lipschitz", report)


def test_progress_goes_to_stderr_every_ten_seconds(run, model, slow):
    result = run("solve", model, "--lower", 0, "--upper", 1, "--functional", 0, "--json")
    json.loads(result.stdout)
    lines = result.stderr.splitlines()
    assert len(lines) == 3
    assert lines[0].split() == "10.0 s lower 1 upper 2 gap 50.000 %".split()


def test_what_a_solver_prints_is_kept_out_of_the_answer(run, model, monkeypatch):
    real = cli.lipschitz

    def talkative(*arguments, **options):
        sys.stdout.write("Warning: small coefficients, ignored\n")
        return real(*arguments, **options)

    monkeypatch.setattr(cli, "lipschitz", talkative)
    result = run("solve", model, "--lower", 0, "--upper", 1, "--functional", 0, "--json")
    assert json.loads(result.stdout)["status"] == "EXACT"
    assert "Warning" in result.stderr


def test_no_progress_when_quiet(run, model, slow):
    assert (
        run("solve", model, "--lower", 0, "--upper", 1, "--functional", 0, "--quiet").stderr == ""
    )


@pytest.mark.slow
def test_a_terminal_shows_one_line_that_changes(hard):
    """Progress on a terminal at stderr, and plain JSON in the pipe at stdout."""
    control, terminal = pytest.importorskip("pty").openpty()
    command = [
        sys.executable,
        "-m",
        "lipexact",
        "solve",
        str(hard),
        "--lower",
        "-1",
        "--upper",
        "1",
        "--json",
    ]
    environment = PLAIN | {"TERM": "xterm-256color", "COLUMNS": "40"}
    shown, told = b"", False
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=terminal
    ) as running:
        os.close(terminal)
        try:
            while part := os.read(control, 65536):
                shown += part
                if not told and all(
                    word in shown for word in (b"lower", b"upper", b"gap", b"\x1b[")
                ):
                    running.send_signal(signal.SIGINT)
                    told = True
        except OSError:  # the terminal is gone, and all of it is read
            pass
        printed = running.stdout.read()
    os.close(control)
    assert told, shown
    assert running.returncode == 3
    assert json.loads(printed)["status"] == "BOUNDED"


# --- Interrupts and pipes


def test_an_interrupt_before_there_is_an_answer_is_code_130(fails, model, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "lipschitz", interrupt)
    assert "interrupted" in fails("solve", model, "--lower", 0, "--upper", 1, code=130)


@pytest.mark.slow
def test_ctrl_c_leaves_an_interval(hard):
    """The signal comes with the first line of progress."""
    script = "from lipexact.cli import main, progress; progress.SECONDS_BETWEEN_LINES = 0; main()"
    command = [
        sys.executable,
        "-c",
        script,
        "solve",
        str(hard),
        "--lower",
        "-1",
        "--upper",
        "1",
        "--json",
    ]
    with subprocess.Popen(
        command, env=PLAIN, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert "lower" in running.stderr.readline()
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=300)
    assert running.returncode == 3
    assert "Traceback" not in err
    printed = json.loads(out)
    assert (printed["status"], printed["termination"]) == ("BOUNDED", "interrupted")
    assert 0 < printed["lower"] < printed["upper"]


@pytest.mark.slow
def test_a_process_of_its_own(model):
    result = process(
        "solve",
        model,
        "--center",
        "-0.5",
        "--radius",
        "0.1",
        "--functional=-1,1",
        env=PLAIN | {"COLUMNS": "20"},
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "\x1b" not in result.stdout
    assert re.search(r"^Lipschitz constant  \d\S+$", result.stdout, re.MULTILINE)
    assert f"model               {model}\n" in result.stdout  # whole, however narrow the terminal


@pytest.mark.slow
def test_a_reader_that_leaves(model):
    """As in `lipexact info ... | head -n 0`."""
    source, sink = os.pipe()
    os.close(source)
    try:
        result = process("info", model, capture_output=False, stdout=sink, stderr=subprocess.PIPE)
    finally:
        os.close(sink)
    assert (result.returncode, result.stderr) == (1, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.slow
def test_a_full_disk(model):
    with Path("/dev/full").open("w") as sink:
        result = process("info", model, capture_output=False, stdout=sink, stderr=subprocess.PIPE)
    assert (result.returncode, result.stderr) == (1, "lipexact: error: No space left on device\n")


def test_a_name_that_the_output_cannot_hold(folder, model, monkeypatch):
    path = folder / "modèle.onnx"
    path.write_bytes(model.read_bytes())
    written = io.BytesIO()
    monkeypatch.setattr(sys, "argv", ["lipexact", "info", str(path)])
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert rb"mod\xe8le.onnx" in written.getvalue()


def test_the_console_script_is_this_main():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert '[project.scripts]\nlipexact = "lipexact.cli:main"\n' in project
