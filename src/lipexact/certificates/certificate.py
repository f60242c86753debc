"""Certificates and their files: JSON, compressed by gzip.

The documentation's page on the format of certificates has the details.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from lipexact.atomic_file import write_whole
from lipexact.errors import CertificateError
from lipexact.graph.ir import Affine, operands
from lipexact.network import Network

FORMAT = "lipexact certificate"
VERSION = 1
# Bytes of JSON that a file may unpack to.
_MAX_BYTES = 2**30


@dataclass(frozen=True, eq=False)
class Certificate:
    """A claim on a network's Lipschitz constant, and its proof.

    Attributes
    ----------
    data
        The content of the file, as `json` reads it.
    """

    data: dict[str, Any]

    @property
    def lower(self) -> float | None:
        """The lower bound that is claimed, or None."""
        return self.data["lower"]  # type: ignore[no-any-return]

    @property
    def upper(self) -> float | None:
        """The upper bound that is claimed to be proven, or None."""
        return self.data["upper"]  # type: ignore[no-any-return]

    @property
    def nodes(self) -> int:
        """How many nodes the proof of the upper bound has."""
        return 0 if self.data["proof"] is None else len(self.data["proof"]["nodes"])

    def __repr__(self) -> str:
        return f"Certificate(lower={self.lower!r}, upper={self.upper!r}, nodes={self.nodes})"

    def to_bytes(self) -> bytes:
        """Return the content of the file, the same for the same certificate."""
        text = json.dumps(
            {**self.data, "digest": digest(self.data)}, separators=(",", ":"), allow_nan=False
        )
        return gzip.compress(text.encode(), mtime=0)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, whole or not at all.

        Raises
        ------
        OSError
            If that fails; a file that was there before is left as it is.
        """
        write_whole(path, self.to_bytes())


def read_certificate(source: str | os.PathLike[str] | bytes) -> Certificate:
    """Read a certificate from its file, or from the bytes of one.

    Raises
    ------
    CertificateError
        If it is missing, or damaged, or none.
    """
    try:
        if not isinstance(source, bytes) and Path(source).exists() and not Path(source).is_file():
            raise CertificateError(f"'{source}' is no regular file")  # a pipe would keep us waiting
        packed = source if isinstance(source, bytes) else Path(source).read_bytes()
        with gzip.open(io.BytesIO(packed)) as stream:
            text = stream.read(_MAX_BYTES + 1)
        if len(text) > _MAX_BYTES:
            raise CertificateError(f"the certificate unpacks to more than {_MAX_BYTES} bytes")
        data = json.loads(text, parse_constant=_refuse, object_pairs_hook=_unique)
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as failure:
        if isinstance(failure, CertificateError):
            raise
        raise CertificateError(f"the certificate cannot be read: {failure}") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise CertificateError("this is no certificate of lipexact")
    if data.get("version") != VERSION:
        raise CertificateError(
            f"the certificate is of version {data.get('version')!r}; this one reads {VERSION}"
        )
    if data.pop("digest", None) != digest(data):
        raise CertificateError(
            "the certificate was damaged or changed after it was written: its digest does not fit"
        )
    return Certificate(data)


def digest(data: dict[str, Any]) -> str:
    """Return the SHA-256 hash of the content."""
    return hashlib.sha256(
        json.dumps(data, sort_keys=True, separators=(",", ":")).encode()
    ).hexdigest()


def fingerprint(network: Network) -> str:
    """Return the SHA-256 hash of a network's graph.

    It is of the operators, and of all numbers bit by bit, but of no names.
    """
    fingerprint_hash = hashlib.sha256()
    positions = {node: k for k, node in enumerate(network.graph.nodes)}
    for node in network.graph.nodes:
        reads = [positions[x] for x in operands(node)]
        fingerprint_hash.update(f"{type(node).__name__} {node.size} {reads};".encode())
        if isinstance(node, Affine):
            for weight, _ in node.terms:
                entries = sp.coo_array(weight)
                chosen = np.lexsort((entries.col, entries.row))
                chosen = chosen[entries.data[chosen] != 0]
                for part, kind in (
                    (entries.row, "<i8"),
                    (entries.col, "<i8"),
                    (entries.data, "<f8"),
                ):
                    fingerprint_hash.update(part[chosen].astype(kind).tobytes())
            fingerprint_hash.update((node.bias + 0.0).astype("<f8").tobytes())
    fingerprint_hash.update(f"{positions[network.output]}".encode())
    return fingerprint_hash.hexdigest()


def _refuse(constant: str) -> float:
    """Refuse NaN and infinities, which JSON does not have."""
    raise ValueError(f"{constant} is no number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a dictionary, and refuse keys that occur twice."""
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a key occurs twice")
    return dict(pairs)
