"""A Time-addressable Media Store, TAMS 8.2: metadata and media behind two protocols."""

from importlib.metadata import version

__version__ = version("tams-proxy")
