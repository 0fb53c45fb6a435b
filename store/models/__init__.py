"""The API's nouns, each declared once: validation, the OpenAPI document and the tests read the same types."""
