"""
What a model call costs: prices by provider, model, time and service tier, and tokens by bytes where nobody told them.

    price.py       one model's prices and the sum of a call, in integers
    service_tier.py  the tiers' many names
    catalogue.py   a price list that somebody else keeps: its providers, models and their rules
    overlay.py     what a person wrote above it (spec.py, under `prices` in the config)
    estimator.py   tokens from bytes, by model
    price_list.py  all of it behind one question: `PriceList.cost`
"""
