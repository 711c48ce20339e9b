"""The Open Inference Protocol (V2), by REST and by gRPC: models by name and version, tensors in and out."""
