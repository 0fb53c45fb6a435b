"""What operators edit, shipped as package data: the default of TAMS_POLICIES."""
