"""Settings: errors a person can act on, bundled files, flags and run.yaml."""
