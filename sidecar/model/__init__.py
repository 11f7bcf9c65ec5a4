"""
The words that everybody uses: exchange, attempt, facts, trace, errors, spec, clock.

Floor 1. Imports nothing but the standard library, does no I/O and reads no clock except through `clock.Clock`.
A new word gets a file of its own name; a word that only one folder needs stays in that folder.
"""
