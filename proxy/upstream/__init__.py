"""The store behind the proxy: embedded in this process, or a TAMS elsewhere."""
