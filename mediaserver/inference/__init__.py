"""Speech workers: the gRPC contract (`rpc`), the worker process, and the client the app uses."""
