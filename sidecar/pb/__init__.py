"""
Our own messages, written by `make proto` from the .proto files of proto/, whose folders stand here again: change those, not these.

Floor 1. Importing a module of this package imports protobuf, so only code that has been asked for protobuf does so, in a thread.
Nothing here but this file is written by hand; tests/pb writes it all anew and compares.
"""
