"""Nouns and rules that every other part shares: the schema, provenance, errors, protocols, the registry."""

from brainalign.core import errors, protocols
from brainalign.core.provenance import Provenance, fingerprint, provenance

__all__ = ["Provenance", "errors", "fingerprint", "protocols", "provenance"]
