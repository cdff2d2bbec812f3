"""State machine <-> C99 sources that need nothing but a compiler and its libm."""
