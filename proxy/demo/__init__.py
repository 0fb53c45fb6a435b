"""`tams-proxy demo`: one team's media kept from another, shown on real media against a running server."""
