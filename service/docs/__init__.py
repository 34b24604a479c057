"""The page /docs, on which people read the API and try it: Swagger UI, and the files here."""
