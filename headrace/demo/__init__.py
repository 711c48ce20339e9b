"""The demonstration: a fleet of pumps, a shuttle's sensors and handwritten digits, end to end, that checks itself."""
