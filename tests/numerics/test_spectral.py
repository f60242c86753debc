"""Spectral norms of small and of large sparse matrices, against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from lipexact.numerics import constants, spectral
from lipexact.numerics.spectral import spectral_norm


def convolution(size: int, channels: int, seed: int) -> sp.csr_array:
    """A 3 by 3 convolution on images of size by size, with zeros around, as a matrix."""
    rng = np.random.default_rng(seed)
    shifts = [sp.eye_array(size, k=k) for k in (-1, 0, 1)]
    blocks = [
        [sum(sp.kron(a, b) * rng.normal() for a in shifts for b in shifts) for _ in range(channels)]
        for _ in range(channels)
    ]
    return sp.csr_array(sp.block_array(blocks))


def test_spectral_norms_of_convolutions():
    small = convolution(8, 2, 0)
    known = np.linalg.norm(small.toarray(), 2)
    assert known * (1 - 1e-15) <= spectral_norm(small) <= known * (1 + 1e-11)
    # By banded Cholesky factors, as large ones; and where the band has no room, by absolute values.
    banded = spectral._by_banded_cholesky(small)
    assert banded is not None
    assert known * (1 - 1e-15) <= banded <= known * (1 + 1e-7)
    above = spectral._by_absolute_values(abs(small))
    assert (
        np.linalg.norm(abs(small).toarray(), 2) * (1 - 1e-12)
        <= above
        <= 1.05 * np.linalg.norm(abs(small).toarray(), 2)
    )
    large = convolution(24, 4, 1)  # 2,304 rows
    assert min(large.shape) > constants.MAX_DENSE_GRAM_SIZE
    start = np.random.default_rng(0).normal(size=large.shape[0])
    (known,) = sp.linalg.svds(large, k=1, v0=start, return_singular_vectors=False)
    assert known * (1 - 1e-12) <= spectral_norm(large) <= known * (1 + 1e-6)
    assert spectral_norm(sp.csr_array(large[:100])) >= np.linalg.norm(large[:100].toarray(), 2) * (
        1 - 1e-14
    )


def test_a_singular_value_that_lanczos_missed_is_no_bound(monkeypatch):
    matrix = convolution(8, 2, 0)
    known = np.linalg.norm(matrix.toarray(), 2)
    honest = sp.linalg.eigsh
    monkeypatch.setattr(sp.linalg, "eigsh", lambda *a, **k: honest(*a, **k) * 0.999)
    assert known <= spectral._by_banded_cholesky(matrix) <= 1.01 * known
    monkeypatch.setattr(sp.linalg, "eigsh", lambda *a, **k: honest(*a, **k) * 0.5)
    assert spectral._by_banded_cholesky(matrix) is None


@pytest.mark.parametrize("size", [1e-170, 1e-163, 1e155])
def test_spectral_norms_in_other_units(size, monkeypatch):
    matrix = convolution(8, 2, 0)
    known = np.linalg.norm(matrix.toarray(), 2) * size
    monkeypatch.setattr(constants, "MAX_DENSE_ENTRIES", 0)
    for small in (
        constants.MAX_DENSE_GRAM_SIZE,
        10,
    ):  # by the Gram matrix's eigenvalues, and by the band
        monkeypatch.setattr(constants, "MAX_DENSE_GRAM_SIZE", small)
        assert known * (1 - 1e-14) <= spectral_norm(matrix * size) <= known * (1 + 1e-6)
    monkeypatch.setattr(spectral, "_by_banded_cholesky", lambda _: None)
    above = spectral_norm(matrix * size)
    assert known * (1 - 1e-14) <= above <= 3 * known
    assert spectral_norm(sp.csr_array(matrix * 0.0)) == 0


def test_a_wide_sparse_matrix_by_its_gram_matrix(monkeypatch):
    wide = sp.csr_array(convolution(8, 3, 2)[:5])
    known = np.linalg.norm(wide.toarray(), 2)
    monkeypatch.setattr(constants, "MAX_DENSE_ENTRIES", 100)
    assert known * (1 - 1e-15) <= spectral_norm(wide) <= known * (1 + 1e-7)
    assert known * (1 - 1e-15) <= spectral_norm(sp.csr_array(wide.T)) <= known * (1 + 1e-7)
