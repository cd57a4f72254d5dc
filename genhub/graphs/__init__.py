"""The networks of a pipeline as graphs: of ONNX, or of `torch.export`."""
