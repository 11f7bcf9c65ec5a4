"""
The slow path: what people (and later alerts and peers) do to a running sidecar.

`operations.py` has the operator's verbs. Admin, CLI and signals all call them there, so that each change is made in one
place, one at a time where that matters, and is told as a fact with who, why and when. To add a verb: a field of `Verbs`, a
method of `Operations`, a route in `admin/api.py`.
"""
