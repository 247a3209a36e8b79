"""The parts of the fault matrix that need no broker."""
