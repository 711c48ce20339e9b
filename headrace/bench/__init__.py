"""Benchmarks that anybody can run on data of their own."""
