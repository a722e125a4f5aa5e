"""The gRPC contract, generated from speech.proto by `make proto`."""
