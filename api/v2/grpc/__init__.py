"""The V2 protocol by gRPC; messages are generated from `open_inference.proto` by `make protos`."""
