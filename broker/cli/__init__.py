"""The command `puente`: one file a noun."""
