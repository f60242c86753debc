"""Hostile model files: refused at once, by an error of our own that says why."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from onnx.helper import (
    make_attribute,
    make_empty_tensor_value_info,
    make_function,
    make_graph,
    make_node,
    make_opsetid,
)

from lipexact.errors import LipExactError, ModelError, UnsupportedOperatorError
from lipexact.onnx import read_onnx
from tests.support.giants import (
    GIANTS,
    model,
    relu,
    sizes,
    tensor,
)
from tests.support.paths import ROOT

pytestmark = pytest.mark.skipif(os.name != "posix", reason="pipes, devices, alarms")

WEIGHTS = np.arange(4, dtype=np.float32)
BYTES = WEIGHTS.tobytes()


def values(path: Path) -> list[float]:
    return read_onnx(path).evaluate(np.zeros(4)).tolist()


@pytest.fixture(autouse=True)
def _deadline() -> Iterator[None]:
    def late(*_: object) -> None:
        raise TimeoutError("still reading")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(20)
    yield
    signal.alarm(0)


def external(name: str = "w", dims: Sequence[int] = (4,), **entries: object) -> TensorProto:
    found = TensorProto(
        name=name, data_type=TensorProto.FLOAT, dims=dims, data_location=TensorProto.EXTERNAL
    )
    for key, value in entries.items():
        found.external_data.add(key=key, value=str(value))
    return found


def adds(weight: TensorProto) -> onnx.ModelProto:
    return model([make_node("Add", ["x", "w"], ["y"])], [weight])


def saved(folder: Path, proto: onnx.ModelProto) -> Path:
    path = folder / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


# Data in other files


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with weights, in one with a secret."""
    (tmp_path / "secret").write_bytes(BYTES)
    found = tmp_path / "model"
    (found / "sub").mkdir(parents=True)
    (found / "weights").write_bytes(BYTES)
    (found / "linked").symlink_to("../secret")
    (found / "out").symlink_to("..")
    (found / "zero").symlink_to("/dev/zero")
    os.link(tmp_path / "secret", found / "hard")
    os.mkfifo(found / "pipe")
    with (found / "huge").open("wb") as stream:
        stream.truncate(2**40)
    return found


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"location": "../secret"}, "outside the model's folder"),
        ({"location": "sub/../../secret"}, "outside the model's folder"),
        ({"location": "linked"}, "outside the model's folder"),
        ({"location": "out/secret"}, "outside the model's folder"),
        ({"location": "zero"}, "outside the model's folder"),
        ({"location": "hard"}, "hard link"),
        ({"location": "/dev/zero"}, "not a path relative"),
        ({"location": "/etc/passwd"}, "not a path relative"),
        ({"location": ""}, "not a path relative"),
        ({}, "not a path relative"),
        ({"location": "weights\0.txt"}, "not a path relative"),
        ({"location": "sub"}, "not a regular file"),
        ({"location": "."}, "not a regular file"),
        ({"location": "pipe"}, "not a regular file"),
        ({"location": "absent"}, "No such file"),
        ({"location": "n" * 5000}, "cannot be read"),
        ({"location": "weights", "offset": -4}, "offset '-4'"),
        ({"location": "weights", "offset": 2**70}, "it must be a number of bytes"),
        ({"location": "weights", "offset": " 0_0 "}, "it must be a number of bytes"),
        ({"location": "weights", "length": "9" * 5000}, "it must be a number of bytes"),
        ({"location": "weights", "length": "x"}, "length 'x'"),
        ({"location": "weights", "offset": 4}, "16 bytes by its shape and type, and 12"),
        ({"location": "weights", "offset": 10**17}, "16 bytes by its shape and type, and 0"),
        ({"location": "weights", "length": 8}, "16 bytes by its shape and type, and 8"),
        ({"location": "weights", "length": 2**40}, "16 bytes by its shape and type"),
        ({"location": "weights", "offset": 8, "length": 16}, "of 16 bytes"),
        ({"location": "weights", "dims": (-4,)}, r"shape \[-4\]"),
        ({"location": "weights", "dims": (2,)}, "8 bytes by its shape and type, and 16"),
        ({"location": "huge"}, "16 bytes by its shape and type"),
        ({"location": "huge", "dims": (2**37, 2)}, "more than 4 GiB"),
        ({"location": "huge", "dims": (2**62, 4)}, "more than 4 GiB"),
    ],
)
def test_data_that_is_not_in_a_file_of_the_folder(
    folder: Path, entries: dict[str, object], message: str
) -> None:
    proto = adds(external(**entries))
    with pytest.raises(ModelError, match=message) as caught:
        read_onnx(saved(folder, proto))
    assert "net.onnx" in str(caught.value)
    assert len(str(caught.value)) <= 2000
    with pytest.raises(ModelError, match="pass the path"):
        read_onnx(proto)


@pytest.mark.parametrize(
    "length", [{}, {"length": 16}, {"offset": 0, "length": 16, "checksum": "?", "junk": "?"}]
)
def test_data_beside_the_model_is_read(folder: Path, length: dict[str, object]) -> None:
    (folder / "sub" / "weights").write_bytes(BYTES)
    (folder / "alias").symlink_to("sub/weights")
    for location in ("weights", "sub/weights", "sub/../weights", "alias"):
        assert values(saved(folder, adds(external(location=location, **length)))) == [0, 1, 2, 3]
    unread = adds(tensor("w", WEIGHTS))
    unread.graph.initializer.append(external("other", location="../secret"))
    assert values(saved(folder, unread)) == [0, 1, 2, 3]


def placed(where: str, weight: TensorProto) -> onnx.ModelProto:
    """The sum of x and a tensor that is held where one may not look for it."""
    constant = [make_node("Constant", [], ["w"], value=weight), make_node("Add", ["x", "w"], ["y"])]
    if where == "attribute":
        return model(constant)
    if where == "function":
        body = make_function("local", "F", ["x"], ["y"], constant, [make_opsetid("", 17)])
        return model([make_node("F", ["x"], ["y"], domain="local")], functions=[body])
    if where == "subgraph":
        branch = make_graph(constant, "branch", [], [make_empty_tensor_value_info("y")])
        return model(
            [make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)],
            [tensor("c", True, bool)],
        )
    proto = model([make_node("Add", ["x", "w"], ["y"])])
    sparse = proto.graph.sparse_initializer.add(dims=[4], values=weight, indices=sizes(0, 1, 2, 3))
    sparse.values.name = "w"
    return proto


@pytest.mark.parametrize("where", ["attribute", "function", "subgraph", "sparse"])
def test_data_of_tensors_of_all_kinds(folder: Path, where: str) -> None:
    assert values(saved(folder, placed(where, external(location="weights")))) == [0, 1, 2, 3]
    with pytest.raises(ModelError, match="outside the model's folder"):
        read_onnx(saved(folder, placed(where, external(location="../secret"))))
    with pytest.raises(ModelError, match="pass the path"):
        read_onnx(placed(where, external(location="../secret")))


def test_no_file_is_read_for_a_model_in_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even by the reference implementation, which evaluates nodes on constants."""
    monkeypatch.chdir(folder)
    filled = make_node(
        "ConstantOfShape", ["s"], ["w"], value=external(dims=[1], location="weights", length=4)
    )
    with pytest.raises(ModelError, match="pass the path"):
        read_onnx(model([filled, make_node("Add", ["x", "w"], ["y"])], [sizes(4)]))


# Tensors that lie


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"dims": [8], "raw_data": BYTES}, "32 bytes by its shape"),
        ({"dims": [2], "raw_data": BYTES}, "8 bytes by its shape"),
        ({"dims": [4], "raw_data": BYTES[:7]}, "7 in the file"),
        ({"dims": [10**12], "raw_data": BYTES}, "16 in the file"),
        ({"dims": [2**62, 4], "raw_data": BYTES}, "16 in the file"),
        ({"dims": [2**62 + 1, 4], "raw_data": BYTES}, "16 in the file"),
        ({"dims": [-4], "raw_data": BYTES}, r"shape \[-4\]"),
        ({"dims": [-1, 4], "raw_data": BYTES}, r"shape \[-1, 4\]"),
        ({"dims": [-1], "float_data": [1, 2, 3, 4]}, r"shape \[-1\]"),
        ({"dims": [8], "float_data": [1, 2, 3, 4]}, "cannot reshape"),
        ({"dims": [4], "double_data": [1, 2, 3, 4]}, "cannot reshape"),
        (
            {"dims": [4], "raw_data": BYTES, "float_data": [9, 9, 9, 9]},
            "several times, in raw_data and float_data",
        ),
        ({"dims": [4], "raw_data": BYTES, "data_type": 99}, r"UNDEFINED \(99\)"),
        ({"dims": [4], "raw_data": BYTES, "data_type": 0}, "UNDEFINED"),
        ({"dims": [2], "raw_data": BYTES, "data_type": TensorProto.INT4}, "1 bytes by its shape"),
        ({"dims": [10**11], "raw_data": BYTES, "data_type": TensorProto.UINT4}, "by its shape"),
        (
            {"dims": [4], "string_data": [b"a"] * 4, "data_type": TensorProto.STRING},
            "not of real numbers",
        ),
        ({"dims": [4], "string_data": [b"\xff"] * 4, "data_type": TensorProto.STRING}, "corrupt"),
        ({"dims": [1] * 100, "raw_data": BYTES[:4]}, "corrupt"),
    ],
)
def test_tensors_that_hold_something_else(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_onnx(adds(TensorProto(**{"name": "w", "data_type": TensorProto.FLOAT, **fields})))


def sparse(
    dims: Sequence[int], indices: object, held: object = (1.0, 2.0), dtype: object = np.int64
) -> TensorProto:
    proto = model([make_node("Add", ["x", "w"], ["y"])])
    proto.graph.sparse_initializer.add(
        dims=dims, values=tensor("w", held), indices=tensor("i", indices, dtype)
    )
    return proto


@pytest.mark.parametrize(
    ("proto", "message"),
    [
        (sparse([10**12], [0, 3]), r"the shape \[1000000000000\]"),
        (sparse([10**6, 10**6], [[0, 0], [0, 3]]), "1 to"),
        (sparse([2**62, 4], [0, 3]), "1 to"),
        (sparse([-4], [0, 3]), "1 to"),
        (sparse([1] * 100, [0, 0]), "1 to"),
        (sparse([4], [0, 4]), "outside its shape"),
        (sparse([4], [0, -1]), "outside its shape"),
        (sparse([1, 4], [[0, 0], [0, -1]]), "outside its shape"),
        (sparse([4], [3, 3]), "an entry twice"),
        (sparse([4], [0.0, 3.0], dtype=np.float32), "type float32"),
        (sparse([4], [0, 1], dtype=bool), "type bool"),
        (sparse([4], ["a", "b"], dtype=object), "type object"),
        (sparse([4], [0]), r"indices of shape \(1,\)"),
        (sparse([4], [[0, 0], [1, 0]]), r"indices of shape \(2, 2\)"),
        (sparse([4], [0, 1], [[1.0, 2.0]]), "corrupt"),
        (sparse([4], [0], 3.0), "corrupt"),
    ],
)
def test_sparse_tensors_that_do_not_fit(proto: onnx.ModelProto, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_onnx(proto)


# Gigantic shapes. They are read in a process of their own, which has little memory.


_READ_GIANTS = """
import json, re, resource, signal, sys
from lipexact.errors import LipExactError
from lipexact.onnx import constants, read_onnx
from tests.support.giants import GIANTS

constants.MAX_MODEL_BYTES = 2**28
size = int(re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read())[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (size + 2**30, size + 2**30))
found = {}
for name, (build, _) in GIANTS.items():
    signal.alarm(20)  # ends the process, with what was found so far
    try:
        proto = build()
        read_onnx(proto) and found.update({name: "it was read"})
    except LipExactError as error:
        found[name] = f"{type(error).__name__}: {error}"
    except BaseException as error:
        found[name] = f"not an error of ours: {error!r}"
    print(json.dumps({name: found[name]}), flush=True)
"""


@pytest.fixture(scope="module")
def outcomes() -> dict[str, str]:
    """How each of the giants was refused."""
    if sys.platform != "linux":
        pytest.skip("memory cannot be limited")
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _READ_GIANTS],
        capture_output=True,
        text=True,
        env=environment,
        cwd=ROOT,
        check=False,
    )
    found: dict[str, str] = {}
    for line in done.stdout.splitlines():
        found |= json.loads(line)
    return found | ({"": done.stderr} if done.returncode else {})


@pytest.mark.parametrize("name", GIANTS)
def test_giants_are_refused_before_they_take_memory(outcomes: dict[str, str], name: str) -> None:
    assert name in outcomes, f"no answer: {outcomes}"
    assert outcomes[name].startswith(("ModelError", "UnsupportedOperatorError"))
    assert GIANTS[name][1] in outcomes[name]


# Names, cycles, functions, subgraphs


def function(name: str, *calls: str) -> onnx.FunctionProto:
    """A function that calls others, one after the other; Relu if there are none."""
    names = ["a", *(f"t{k}" for k in range(len(calls) - 1)), "b"]
    nodes = [
        make_node(call, [names[k]], [names[k + 1]], domain="local") for k, call in enumerate(calls)
    ]
    return make_function(
        "local",
        name,
        ["a"],
        ["b"],
        nodes or [relu("a", "b")],
        [make_opsetid("", 17), make_opsetid("local", 1)],
    )


def calling(*functions: onnx.FunctionProto) -> onnx.ModelProto:
    return model([make_node("F0", ["x"], ["y"], domain="local")], functions=functions)


def nested(depth: int) -> onnx.ModelProto:
    """If within If, as only a model in memory can be."""
    proto = model([], [tensor("c", True, bool)])
    graph = proto.graph
    for _ in range(depth):
        node = graph.node.add(op_type="If", input=["c"], output=["y"])
        node.attribute.add(name="else_branch", type=onnx.AttributeProto.GRAPH).g.output.add(
            name="x"
        )
        graph = node.attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH).g
        graph.output.add(name="y")
    graph.node.add(op_type="Relu", input=["x"], output=["y"])
    return proto


def changed(change: Callable[[onnx.ModelProto], object], *nodes: onnx.NodeProto) -> onnx.ModelProto:
    proto = model(
        nodes or [make_node("Add", ["x", "w"], ["y"])], [] if nodes else [tensor("w", WEIGHTS)]
    )
    change(proto)
    return proto


def chain(length: int, first: str) -> list[onnx.NodeProto]:
    return [
        relu(first, "a0"),
        *(relu(f"a{k}", f"a{k + 1}") for k in range(length - 1)),
        relu(f"a{length - 1}"),
    ]


@pytest.mark.parametrize(
    ("proto", "message"),
    [
        (
            changed(lambda p: p.graph.initializer.append(tensor("w", [7.0]))),
            "initializers, of the name 'w'",
        ),
        (
            changed(
                lambda p: p.graph.sparse_initializer.add(
                    dims=[4], values=tensor("w", [5.0]), indices=sizes(1)
                )
            ),
            "initializers, of the name 'w'",
        ),
        (changed(lambda p: p.graph.input.append(p.graph.input[0])), "several inputs"),
        (changed(lambda p: p.graph.node.append(relu("x", "w"))), "'w' twice"),
        (changed(lambda p: p.graph.node.append(relu("y", "x"))), "'x' twice"),
        (changed(lambda p: p.graph.node.append(relu("x", "y"))), "'y' twice"),
        (changed(lambda _: None, make_node("Split", ["x"], ["y", "y"], axis=1)), "'y' twice"),
        (changed(lambda p: p.graph.initializer.append(tensor("x", [WEIGHTS]))), "no input"),
        (
            changed(
                lambda p: p.graph.node[0].attribute.append(make_attribute("axis", 0)),
                make_node("Concat", ["x", "x"], ["y"], axis=1),
            ),
            "two attributes of one name",
        ),
        (changed(lambda p: p.opset_import.append(make_opsetid("ai.onnx", 6))), "one version each"),
        (model([relu()], opset=-5), "one version each"),
        (model([make_node("Relu", [""], ["y"])]), "is missing"),
        (model([relu("x", "")], output=""), "tensor ''"),
        (model([relu("x", "Y")]), "tensor 'y'"),
        (model([make_node("Add", ["x", "y"], ["y"])]), "a cycle through 'y'"),
        (model(chain(20000, "a19999")), "a cycle through 'a0', .* and 19991 others"),
        (calling(function("F0", "F0")), "in a circle: 'local.F0'"),
        (calling(function("F0", "F1"), function("F1", "F0")), "in a circle"),
        (
            calling(*(function(f"F{k}", f"F{k + 1}") for k in range(3000)), function("F3000")),
            "inlined",
        ),
        (
            calling(*(function(f"F{k}", *[f"F{k + 1}"] * 2) for k in range(40)), function("F40")),
            "so often",
        ),
        (nested(200), "graphs within graphs"),
        (nested(10000), "graphs within graphs"),
    ],
)
def test_malformed_graphs(proto: onnx.ModelProto, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        read_onnx(proto)


def test_nesting_and_length_within_the_limits() -> None:
    assert read_onnx(nested(50)).output.size == 4
    assert read_onnx(model(chain(5000, "x"))).output.size == 4
    assert read_onnx(calling(function("F0", "F1", "F1"), function("F1"))).output.size == 4
    # The same once all but letters, digits and underscores is gone.
    nodes = [
        relu("x", "a-"),
        *(relu("a" + "-" * k, "a" + "-" * (k + 1)) for k in range(1, 3000)),
        relu("a" + "-" * 3000),
    ]
    assert len({node.name for node in read_onnx(model(nodes)).graph.nodes}) > 3000


@pytest.mark.parametrize("name", ["\x1b[2J\x07\n\r\u202e", "n" * 10**6, "\x00" * 3000])
def test_errors_are_short_lines_whatever_the_names(name: str) -> None:
    for proto in (
        model([make_node("Sin", ["x"], [name]), relu(name)]),
        model([relu(name)]),
        model([relu()], output=name),
    ):
        with pytest.raises(LipExactError) as caught:
            read_onnx(proto)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) <= 2000
    assert all(
        len(node.name) < 1000
        for node in read_onnx(model([relu("x", name), relu(name)])).graph.nodes
    )


def test_errors_list_a_few_names_of_many() -> None:
    proto = model([relu()])
    proto.graph.output.extend(make_empty_tensor_value_info(f"o{k}") for k in range(10**4))
    with pytest.raises(ModelError, match=r"10001 outputs \('y', .*'o8', and 9991 others\)"):
        read_onnx(proto)


# Files


def test_only_regular_files_of_a_possible_size_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    (tmp_path / "link.onnx").symlink_to("pipe.onnx")
    for path in (
        tmp_path,
        tmp_path / "pipe.onnx",
        tmp_path / "link.onnx",
        "/dev/zero",
        "/dev/null",
    ):
        with pytest.raises(ModelError, match=r"cannot read .* not a regular file"):
            read_onnx(path)
    with (tmp_path / "zeros.onnx").open("wb") as stream:
        stream.truncate(3 * 2**30)
    with pytest.raises(ModelError, match=r"zeros\.onnx' has 3221225472 bytes"):
        read_onnx(tmp_path / "zeros.onnx")
    (tmp_path / "round.onnx").symlink_to("round.onnx")
    with pytest.raises(ModelError, match="cannot read"):
        read_onnx(tmp_path / "round.onnx")


@pytest.mark.parametrize("ending", ["onnx", "json", "textproto", "onnxtxt"])
@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(model([relu()]).SerializeToString(), mtime=0),
        b"PK\x03\x04" + bytes(100),
        b"\x80\x04\x95",
        b"version https://git-lfs.github.com/spec/v1\n",
        b'{"graph":' + b"[" * 10**5,
        b"graph { node { attribute { " + b"g { node { attribute { " * 10**4,
        b"\x3a\x80\x80\x80\x80\x10",
        b"\x7b" * 10**5,
    ],
    ids=["gzip", "zip", "pickle", "lfs", "json", "text", "length", "groups"],
)
def test_files_of_other_kinds(tmp_path: Path, content: bytes, ending: str) -> None:
    path = tmp_path / f"net.{ending}"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=rf"net\.{ending}"):
        read_onnx(path)


def test_unknown_operators_are_not_run() -> None:
    proto = model(
        [
            make_node("PyOp", ["w"], ["v"], domain="ai.onnx.contrib"),
            make_node("Add", ["x", "v"], ["y"]),
        ]
    )
    proto.graph.initializer.append(tensor("w", WEIGHTS))
    with pytest.raises(UnsupportedOperatorError):
        read_onnx(proto)
