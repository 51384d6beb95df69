"""A client of any TF Serving over REST or gRPC. It needs neither Keras nor a server library."""
