"""The audit log from Python: where it is kept, how it is read, and where its records go."""
