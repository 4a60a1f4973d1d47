"""fMRI: volumes, surfaces and region time courses."""
