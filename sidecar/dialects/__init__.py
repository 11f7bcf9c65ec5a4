"""
How others speak: bytes to model and back, no I/O. One file a provider or protocol; `plain` is the template.

Floor 2. Today a dialect answers one question, `error(code, ...)`: the body of an error that the sidecar itself makes, in
words that the client's SDK understands.
"""
