"""What every request passes: who calls, from where, how much, and how a failure is told."""
