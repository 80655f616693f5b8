"""Benchmarks: each compares the product with a reference that is measured in the same run.

``python -m bench`` (or ``make bench``) prints a table and writes ``bench/results/<time>.json``.
"""
