"""
The telemetry plane: what is told about the calls, and the OTLP that agents send, on their way to the backends.

    receivers/ ─► processors/ ─► exporters/        wired by pipeline.py, as `service.pipelines` says (the Collector's grammar)

What flows is a `signals.Batch`: immutable bytes of OTLP requests, shared by all branches and never parsed on the way. A
receiver has `connect({signal: consume})`, an exporter has `consume(batch) -> bool`, a processor has both; `consume` never
waits and never raises: what finds no room is counted and answered with False. Nothing here can slow a call down.

`spans.py` writes facts as OTLP spans (with `wire.py` and `attributes.py`), `queue.py` is the queue with retries that every
exporter stands on, `resource.py` says who we are, `otlp.py` knows the OTLP messages, `otlp_json.py` their JSON form,
`metrics.py` shows the process' own numbers.
"""
