"""
Where telemetry comes from: `traffic` (our own calls) and `otlp` (what agents send us).

A receiver is a file with `Config` and `build(name, config, runtime)`; what it builds has `connect(consumers)`, which is
called before `start` and again after a reload, and hands its batches to `consumers[signal]`. `SIGNALS` (default: all three)
names what it can produce. The smallest one:

    class Hello:
        def connect(self, consumers): self._consume = consumers[Signal.TRACES]
        async def start(self): self._consume(Batch.of(Signal.TRACES, request.SerializeToString(), 1))
"""
