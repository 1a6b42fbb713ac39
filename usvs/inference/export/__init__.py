"""Trained networks in the formats of other programs: safetensors and JSON, timm, TorchScript, torch.export, ONNX.

`usvs.export_model` is the only public name; ``usvs export`` calls it.
"""
