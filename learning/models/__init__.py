"""Model kinds, each with its Python source and its ONNX graph side by side; a test holds one against the other."""
