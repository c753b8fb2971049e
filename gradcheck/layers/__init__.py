"""Other people's layers in, verified rules out."""
