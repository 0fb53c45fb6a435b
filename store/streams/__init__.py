"""Live streams: data flows whose entries are pushed and pulled as they happen."""
