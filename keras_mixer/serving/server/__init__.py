"""A small server of TF Serving's REST and gRPC, for development and tests."""
