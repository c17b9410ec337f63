"""Benchmarks: ratios against the thing replaced, in one run, on random data. They measure and never assert."""

from flowsr.bench.conv import BenchCase, Row, bench_conv, conv_markdown

__all__ = ["BenchCase", "Row", "bench_conv", "conv_markdown"]
