"""Linear algebra that several heads share."""
