"""What is installed here, and whether it works: packages, kernels, programs, devices; ``usvs doctor`` prints it.

Importing it needs nothing but the standard library, so that it can say what is missing.
"""

from usvs.doctor.checks import Check, State
from usvs.doctor.examine import Examination, examine

__all__ = ["Check", "Examination", "State", "examine"]
