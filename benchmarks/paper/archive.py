"""Zip archives of small trained networks, as ONNX files: `benchmarks/networks/NAME.zip`."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from functools import cache
from typing import Any

import onnx

import lipexact as lx
from benchmarks.cases import NETWORKS

ABOUT = "about.json"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the same bytes whenever the same networks are written


@cache
def network(archive: str, name: str) -> lx.Network:
    """One network of an archive."""
    with zipfile.ZipFile(NETWORKS / f"{archive}.zip") as file:
        return lx.load(onnx.load_model_from_string(file.read(f"{name}.onnx")))


def about(archive: str) -> dict[str, Any]:
    """Return what is known of an archive's networks, by their names."""
    with zipfile.ZipFile(NETWORKS / f"{archive}.zip") as file:
        known: dict[str, Any] = json.loads(file.read(ABOUT))
    return known


def write(archive: str, networks: Mapping[str, bytes], known: Mapping[str, Any]) -> None:
    """Make an archive of ONNX files, and of what is known of them."""
    files = {
        ABOUT: json.dumps(known, indent=1).encode(),
        **{f"{name}.onnx": data for name, data in networks.items()},
    }
    with zipfile.ZipFile(NETWORKS / f"{archive}.zip", "w") as file:
        for name, data in files.items():
            file.writestr(zipfile.ZipInfo(name, EPOCH), data, zipfile.ZIP_DEFLATED)
