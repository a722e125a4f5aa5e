"""One module a step; their order is that of `down_revision`."""
