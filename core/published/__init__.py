"""Uses of a projector outside this repository: a modular block, a custom pipeline and a ComfyUI node.

They are published as single files into which all that they use of `core` is copied (`studio/exchange/publishing.py`).
"""
