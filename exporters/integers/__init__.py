"""A network in whole numbers: int8 weights and 24-bit states, Loihi-2-style fixed point, whoever runs it."""
