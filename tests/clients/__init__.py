"""What others make of the OpenAPI document: clients that are generated from it, and linters; for `make clients`.

- `__main__` starts the service, generates the clients, and runs everything below; it fails if one of them does.
- `attr_calls` uses the client of openapi-python-client, `pydantic_calls` that of openapi-generator, `fetch_calls.ts`
  that of openapi-typescript and openapi-fetch: each creates, reads, lists, changes and deletes items and users, one and
  several.
- `http_messages` has httplint look at a response of every status that a client can bring about.
- `redocly.yaml` and `spectral.yaml` configure the linters of the document.

All of it is pinned, in `requirements.txt` and `package-lock.json`, and installed into the folder `.clients`, with node
and a JDK: Python and make are all it takes.
"""
