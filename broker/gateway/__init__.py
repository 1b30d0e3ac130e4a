"""The gRPC edge: three services behind one guard."""
