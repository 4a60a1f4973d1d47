"""Spike times and calcium traces."""
