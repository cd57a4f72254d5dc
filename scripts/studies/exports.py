"""Exports every network of the published models to ONNX and `torch.export`, measures how far each file is from
PyTorch, and writes the table of docs/export.md and the sections of the cards:
`python scripts/studies/exports.py [MODEL...]`, without a name only table and sections from the stored figures."""
