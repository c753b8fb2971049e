"""Other people's layers as rules: one file a framework, and one for plain objects."""
