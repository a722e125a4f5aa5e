"""HTTP and WebSocket resources, one module each."""
