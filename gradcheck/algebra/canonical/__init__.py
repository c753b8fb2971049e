"""The canonical form of index expressions: equality at every size.

`forms` is the normal form, `atoms` what it is made of, `functions` powers, exp, log and branches,
`calculus` the derivative, `decide` whether a difference is zero, `text` how a form is read.
"""
