"""The feature store: declarations, online and historical reads, and the proof that both say the same."""
