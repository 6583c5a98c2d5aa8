"""Checkpoints become encoder bundles (ONNX): the only place for torch and transformers."""
