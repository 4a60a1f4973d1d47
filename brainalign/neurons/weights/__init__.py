"""What weights say, of units and of voxels."""
