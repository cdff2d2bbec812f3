"""The integers of the Lava export as C99: no floating point, no allocation, no library."""
