"""What this package means by an array: NumPy, CuPy, JAX, or anything else that follows the array API standard."""

from typing import Any

Array = Any
"""An array of any library. Functions take their array namespace from their arguments, never from a global switch."""
