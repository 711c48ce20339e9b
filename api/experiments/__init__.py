"""Experiments between models: assignment, exposure, conversion, verdict."""
