"""ipamd: the daemon on each node that keeps a pool of addresses warm, and hands them to pods.

Read in this order: datastore (what it knows), pool (what it decides, with the numbers), awsutils
(how it asks EC2), daemon (when it does all this).
"""

from .daemon import Assignment, Decision, Ipamd, NoAddress
from .pool import EniConfig

__all__ = ["Assignment", "Decision", "EniConfig", "Ipamd", "NoAddress"]
