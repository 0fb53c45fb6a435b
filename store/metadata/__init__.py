"""What is known about the media: rows behind one protocol."""
