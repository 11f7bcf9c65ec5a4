"""
What a component may lean on: the loader, the bus, metrics, engines that outlive a reload.

Floor 3. A component is a module (or package) with `Config` (a `model.spec.Spec`) and `build(name, config, runtime)`; what
`build` returns may have `async start()`, `async stop()` (callable twice, and without a start) and `health() -> Health`.
"""
