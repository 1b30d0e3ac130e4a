"""Sweeps: faults and leaks looked for exhaustively."""
