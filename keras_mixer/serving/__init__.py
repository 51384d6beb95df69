"""A client of TF Serving's REST and gRPC, and a small server that speaks the same, for development.

This package knows a SavedModel folder and the wire, and nothing of Keras. Names load on first use, so that the client
needs neither TensorFlow nor a server library. `__init__.pyi` lists them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
