"""Data, training and export to ONNX; later drift, retraining and experiments. Nothing of it is needed to serve a model."""
