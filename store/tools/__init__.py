"""`tams-store ingest`, `outgest`, `edit`, `ls`, `show`, `rm`, `share`: clients of any TAMS service."""
