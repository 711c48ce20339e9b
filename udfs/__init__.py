"""Inference inside SQL: an Arrow Flight server of functions over Arrow batches.

`server` speaks the arrow-udf protocol, `predict` is the function, `router` decides which members serve a row, `combine`
merges their answers, `sessions` runs ONNX. Everything here is deterministic in its arguments: no clock, no random numbers,
no ids.
"""
