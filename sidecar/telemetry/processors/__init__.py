"""
What happens to telemetry on its way.

A processor is a file with `Config` and `build(name, config, runtime)`, built anew for each pipeline that names it. It has
`connect({signal: consume})`, called once, and `consume(batch) -> bool`, which passes on the batch it was given or another one
(batches are shared with other branches: never change one). It answers what the next one answered, True for what it meant to
drop, and counts that. It must not wait; what needs time keeps batches (bounded) and passes them on from a task that `stop` ends.
The smallest one:

    class Everything:
        def connect(self, consumers): (self._next,) = consumers.values()
        def consume(self, batch): return self._next(batch)
"""
