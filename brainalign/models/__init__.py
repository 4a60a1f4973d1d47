"""Mappings from source to target responses."""
