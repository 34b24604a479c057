"""python -m service grants | openapi."""

import argparse
import json

from db.engines.privileges import grants
from service.openapi.document import document
from service.routes import ROUTES
from service.settings import Settings


def print_grants(_settings: Settings, given: argparse.Namespace) -> int:
    """Print the SQL that grants a role what the service needs."""
    print(*(f"{statement};" for statement in grants(given.role, given.schema)), sep="\n")
    return 0


def print_document(settings: Settings, _given: argparse.Namespace) -> int:
    """Print the OpenAPI document."""
    print(json.dumps(document(ROUTES, settings.auth), indent=2))
    return 0
