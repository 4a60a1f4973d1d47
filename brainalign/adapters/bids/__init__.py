"""Folders laid out by the Brain Imaging Data Structure."""
