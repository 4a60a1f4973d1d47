"""The study store: responses, stimuli and results in zarr."""
