"""What a simulator lists when nobody says what it is to trade: for symbol searches before a start with it.

A search of `start --simulate` is answered from this list; what it finds is then traded and watched.
"""

from __future__ import annotations

from typing import Final

_NAMES = """
AAPL ADBE AMD AMGN AMZN AVGO BKNG CMCSA COST CSCO CSX GILD GOOG GOOGL HON INTC INTU ISRG LRCX MDLZ META MSFT MU NFLX
NVDA PANW PEP PYPL QCOM SBUX TMUS TSLA TXN VRTX @CL# @ES# @ESH26 @ESM26 @GC# @NQ#
"""
LISTED: Final = tuple(_NAMES.split())
