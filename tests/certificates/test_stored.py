"""Certificates that lipexact 0.1.0 has written: every later version must be able to check them."""

import gzip
from pathlib import Path

import pytest

import lipexact as lx

STORED = Path(__file__).parents[1] / "fixtures" / "certificates"
CLAIMS = {
    "ball_functional": (27.5, 27.5),
    "box_linf": (24.26171875, 24.26171875),
    "reals_l2": (6.779775497824351, 6.779775497892148),
}


def test_every_stored_certificate_has_its_claims() -> None:
    assert {path.stem for path in STORED.glob("*.lxc")} == set(CLAIMS)


@pytest.mark.parametrize("name", sorted(CLAIMS))
def test_stored_certificates_are_proven(name: str) -> None:
    certificate = lx.read_certificate(STORED / f"{name}.lxc")
    assert (certificate.lower, certificate.upper) == CLAIMS[name]
    report = lx.check(STORED / f"{name}.onnx", certificate)
    assert report.ok
    assert report.exact
    assert (report.lower.claim, report.upper.claim) == CLAIMS[name]
    # Writing what was read gives the same content again, however gzip packs it.
    packed = (STORED / f"{name}.lxc").read_bytes()
    assert gzip.decompress(certificate.to_bytes()) == gzip.decompress(packed)
