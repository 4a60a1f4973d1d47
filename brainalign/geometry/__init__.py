"""Representational geometry: RDMs and their comparison."""
