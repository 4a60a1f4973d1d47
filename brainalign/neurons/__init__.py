"""What drives a neuroid, be it a unit or a voxel."""
