"""What goes on in the background, under leases, so that several processes share it."""
