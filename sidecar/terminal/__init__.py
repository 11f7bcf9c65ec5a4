"""
What the commands show people, and how they run other people's programs: screen, table, figures, calls, foreground,
and what stands around such a program.

Floor 7, beside `cli`. Nothing here knows a command; what only one command needs stays in that command's file.
"""
