"""The only place that knows file formats and model hubs."""
