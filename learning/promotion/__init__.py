"""How a model version comes into a stage: policies, executable checks, comparison, rollback, and who is told."""
