"""Fits the package `prophet` to the histories on standard input, a JSON object a line, and says what it forecasts."""
import json
import logging
import sys
import time
import warnings

import pandas as pd
from prophet import Prophet

logging.disable(logging.CRITICAL)
warnings.filterwarnings("ignore")
for line in sys.stdin:
    task = json.loads(line)
    history = pd.DataFrame({"ds": pd.to_datetime(task["history_s"], unit="s"), "y": task["values"]})
    begun = time.perf_counter()
    # As it comes, but for the interval's width, which is its default too.
    model = Prophet(interval_width=0.8)
    model.fit(history)
    fit_s = time.perf_counter() - begun
    said = model.predict(pd.DataFrame({"ds": pd.to_datetime(task["asked_s"], unit="s")}))
    columns = {name: said[name].tolist() for name in ("yhat", "yhat_lower", "yhat_upper")}
    print(json.dumps({"fit_s": fit_s, **columns}), flush=True)
