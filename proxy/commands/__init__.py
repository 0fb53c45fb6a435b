"""Commands of `tams-proxy`, one module per noun."""
