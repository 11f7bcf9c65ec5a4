"""
Where telemetry goes: `otlp_http`, `otlp_grpc`, `file`, `debug`.

An exporter is a file with `Config` and `build(name, config, runtime)`; what it builds has `consume(batch) -> bool`, which
takes the batch at once or counts it as dropped. `SIGNALS` (default: all three) names what it understands. Stand on
`queue.SendingQueue`: it bounds, batches, retries, counts and knows how the backend is, and an exporter is then one function:

    async def send(signal: Signal, body: bytes) -> Outcome: ...

Imports that weigh (aiohttp, grpc, protobuf) belong into `start`, through `asyncio.to_thread`, because nothing may be loaded
before the proxy listens.
"""
