"""The `exact` oracle."""
