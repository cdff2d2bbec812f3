"""The training floor: torch modules, parallel in time."""
