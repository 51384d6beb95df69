"""The Open Inference Protocol (KServe v2) over REST and gRPC, for the clients of KServe, Triton and OpenVINO.

The protocol does not have signatures. The parameter `signature_name` of a request selects the signature; without it,
the names of the inputs do. REST supports the extension for binary tensors.
"""
