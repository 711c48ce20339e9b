"""Predictions on request: the route of the last epoch, the UDF server, an acknowledged record, an answer."""
