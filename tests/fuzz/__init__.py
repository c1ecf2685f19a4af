"""Damaged lines in any number through a kernel with bounds checking and through its plain reference.

`python -m tests.fuzz --port level2 --lines 10000000 --seed 1`; see `__main__`.
"""
