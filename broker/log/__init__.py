"""One partition's durable log: record batches, segment files, producer state, group commit."""
