"""Artificial networks as responders."""
