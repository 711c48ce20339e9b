"""Small, honest doubles of our ports, for tests and examples."""

from core.fakes.clock import ManualClock

__all__ = ["ManualClock"]
