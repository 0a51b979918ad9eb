"""Noise Projection Studio: settings -> interface -> launch."""

import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

from studio.interface import launch

if __name__ == "__main__":
    launch()
