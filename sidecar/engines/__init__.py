"""
What we know: pure state machines and tables, one package an engine.

Floor 2. No I/O, no clock: time, chance and data come in as arguments, so a year of traffic replays in seconds. An engine hears
facts or answers questions, never awaits, and needs no lock.

    prices/    what a model call costs
"""
