"""Benchmarks. They print ratios measured within one run; nothing is asserted. `make bench`."""
