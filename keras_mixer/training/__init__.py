"""Training and fine-tuning: recipes, schedules, devices, and runs that survive being killed."""

import lazy_loader

# Names load on first use, so that listing or resolving recipes is quick; `__init__.pyi` lists them.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
