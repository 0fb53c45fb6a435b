"""The API's own documentation: an OpenAPI document made from the routes and models, and pages to read it."""
