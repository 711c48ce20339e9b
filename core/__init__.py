"""Domain types, ports, errors and settings. Knows nobody else of ours."""
