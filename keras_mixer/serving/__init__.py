"""A client of TF Serving's REST and gRPC, and a small server of the same wire for development.

The package stands alone: it knows a SavedModel folder and the wire, nothing of Keras. Names load on first use, so that
the client needs neither TensorFlow nor a server library; `__init__.pyi` lists them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
