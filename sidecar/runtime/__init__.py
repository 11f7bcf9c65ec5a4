"""
What a component may lean on: the loader, the bus, metrics, engines that outlive a reload.

Floor 3. A component is a module (or package) with `Config` (a `model.spec.Spec`) and `build(name, config, runtime)`; what
`build` returns may have `async start()`, `async stop()` (callable twice, and without a start) and `health() -> Health`.

    runtime.py      what every component is built with; bus.py facts, metrics.py numbers
    components.py   a YAML section is a folder, a type is a module in it
    document.py     YAML that remembers its lines (scalars.py, substitution.py)
    reading.py      from what was written to specs (settings.py), faults with path, line and hint
    references.py   what the parts of a config say about each other
    tree.py         specs as plain trees: to be shown without secrets, to be compared
    trust.py        whose certificates our TLS clients believe
"""
