"""Derivatives as programs: a closed form becomes a short list of array statements.

`graph` holds the statements, `tracing` records a forward, `lowering` and `contraction` turn
expressions into statements, `reverse` chooses how cotangents travel through a chain, `kernels`
replaces groups of statements by a framework's fused functions, `emitting` writes source, `programs`
keeps what was compiled, `arguments` checks and converts what a call is given, and `compiled` is what
users call.
"""
