"""The worker process: the only place where models are loaded."""
