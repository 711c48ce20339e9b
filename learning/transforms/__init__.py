"""Fitted transformations: measured on training rows once, then data; the same in Python, inside the model's graph, and in SQL."""
