"""The authorizing door: who is calling, what they may do, and what they get to see."""

from importlib.metadata import version

__version__ = version("tams-proxy")
