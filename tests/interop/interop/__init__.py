"""Acceptance of the store simulator by the vendors' own published clients."""
