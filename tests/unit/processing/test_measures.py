"""Formulas against exact fractions, over the whole range of numbers that the docstrings promise."""

from __future__ import annotations

import math
from fractions import Fraction

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline_orchestrator.processing import measures
from pipeline_orchestrator.processing.layout import NIL

PRICES = st.integers(-(10**12), 10**12)  # up to a million dollars
SIZES = st.integers(0, 10**9)


@settings(deadline=None)
@given(st.integers(-(1 << 61), 1 << 61), st.integers(1, 1 << 61))
def test_division_rounds_half_to_even(a: int, b: int) -> None:
    assert measures.divide_even(a, b) == round(Fraction(a, b))


@settings(deadline=None)
@given(st.integers(-(10**6), 10**6))
def test_a_half_goes_to_the_even_neighbour(a: int) -> None:
    assert measures.divide_even(2 * a + 1, 2) % 2 == 0


@settings(deadline=None)
@given(PRICES, PRICES)
def test_mid(bid: int, ask: int) -> None:
    assert measures.mid_price(bid, ask) == round(Fraction(bid + ask, 2))


@settings(deadline=None)
@given(PRICES, SIZES, PRICES, SIZES)
def test_microprice_is_the_size_weighted_mid(bid: int, bid_size: int, ask: int, ask_size: int) -> None:
    assume(bid_size + ask_size > 0)
    exact = Fraction(bid * ask_size + ask * bid_size, bid_size + ask_size)
    assert measures.microprice(bid, bid_size, ask, ask_size) == round(exact)


def test_without_any_size_there_is_no_microprice() -> None:
    assert measures.microprice(10, 0, 20, 0) == NIL


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(-(10**11), 10**12), st.integers(0, 10**7)), max_size=30))
def test_vwap_is_exact_however_much_traded(trades: list[tuple[int, int]]) -> None:
    hi = sum((price >> measures.LOW_BITS) * size for price, size in trades)
    lo = sum((price & measures.LOW_MASK) * size for price, size in trades)
    volume = sum(size for _, size in trades)
    wanted = round(Fraction(sum(price * size for price, size in trades), volume)) if volume else NIL
    assert measures.vwap(hi, lo, volume) == wanted


def test_vwap_of_four_trillion_shares() -> None:
    price, volume = 1_234_567, 4 * 10**12
    hi, lo = (price >> measures.LOW_BITS) * volume, (price & measures.LOW_MASK) * volume
    assert measures.vwap(hi, lo, volume) == price


def test_order_flow_imbalance_of_the_paper() -> None:
    # best bid up: all of the new size counts; ask up: all of the old size counts
    assert measures.flow_imbalance(100, 5, 102, 7, 101, 3, 102, 7) == 3
    assert measures.flow_imbalance(100, 5, 102, 7, 99, 3, 102, 7) == -5
    assert measures.flow_imbalance(100, 5, 102, 7, 100, 9, 102, 7) == 4
    assert measures.flow_imbalance(100, 5, 102, 7, 100, 5, 101, 2) == -2
    assert measures.flow_imbalance(100, 5, 102, 7, 100, 5, 103, 2) == 7
    assert measures.flow_imbalance(100, 5, 102, 7, 100, 5, 102, 1) == 6
    assert measures.flow_imbalance(100, NIL, 102, 7, 100, 5, 102, 1) == NIL


def test_the_half_life_halves_the_weight() -> None:
    decay = math.log(2) / 60
    calm = measures.variance_after(8.0, 1000, 1000, 60_000_000, decay)
    assert math.isclose(calm, 4.0, rel_tol=1e-12)
    first = measures.variance_after(math.nan, 1000, 1010, 4_000_000, decay)
    assert math.isclose(first, math.log(1.01) ** 2 / 4, rel_tol=1e-12)
    quick = measures.variance_after(0.0, 1000, 1010, 1, decay)
    assert math.isclose(quick, math.log(1.01) ** 2 * decay, rel_tol=1e-6)  # bounded, however short the step
