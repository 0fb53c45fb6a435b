"""From a request to a domain function and back: thin."""
