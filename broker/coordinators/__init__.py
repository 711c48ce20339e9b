"""State beside the logs: producer ids, transactions, committed offsets, consumer groups."""
