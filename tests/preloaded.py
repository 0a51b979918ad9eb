"""The imports of the app and of its models, for processes that are forked from one that has made them."""

import importlib
import sys

from studio.environment import WithoutStubs

sys.meta_path.insert(0, WithoutStubs())
for name in ("studio.interface", "plotly.graph_objects", "data.shapes.detect", "tests.browser.conftest"):
    importlib.import_module(name)
importlib.import_module("studio.images.models").libraries()
