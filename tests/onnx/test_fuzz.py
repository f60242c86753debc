"""A short run of the mutations of fuzz_reader.py: only errors of lipexact come out."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lipexact.errors import ModelError
from lipexact.onnx import read_onnx
from tests.support.fuzz_reader import mutated, outcome, seeds
from tests.support.onnx_files import onnx_model

SEEDS = seeds()


def test_the_seeds_are_read() -> None:
    kinds = {outcome(model, drop_final=False) for model in SEEDS}
    assert "read" in kinds


@given(
    st.integers(0, len(SEEDS) - 1), st.randoms(use_true_random=False), st.booleans(), st.booleans()
)
@settings(max_examples=400, deadline=None)
def test_mutated_models_raise_our_errors_only(
    index: int, rng: random.Random, batched: bool, drop_final: bool
) -> None:
    outcome(
        mutated(SEEDS[index], rng), batched=batched, drop_final=drop_final and rng.random() < 0.2
    )


# What the long runs found


def test_a_cycle_below_a_final_activation() -> None:
    model = onnx_model("(double[1,3] x) => (double[1,3] y) { y = Identity (h)\n h = Identity (y) }")
    for options in ({}, {"drop_final": True}):
        with pytest.raises(ModelError):
            read_onnx(model, **options)
