"""Where the bytes are: storage backends behind one protocol."""
