"""Noise Projection Studio: settings -> interface -> launch."""

from studio.environment import prepare

prepare()  # before anything is imported that looks at the environment

from studio.interface import launch

if __name__ == "__main__":
    launch()
