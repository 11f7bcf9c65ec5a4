"""
Where calls go: `http` (an HTTP/1.1 endpoint over TCP or TLS).

An upstream is a file with `Config` and `build(name, config, runtime)`. It owns the connections to one endpoint: how many there
may be, how long each step may take, whom to trust. It outlives a reload that does not change it. `http.py` is the template.
"""
