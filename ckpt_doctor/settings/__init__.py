"""What the user has written down: a settings file and the environment, as one :class:`Settings`.

>>> from ckpt_doctor import load_settings
>>> load_settings("fixtures").policy.fail_on
'error'
"""

from .loading import Settings, load_settings

__all__ = ["Settings", "load_settings"]
