package main

import "os"

// Windows has no such signals: `capagent reload`, `rotate` and `trigger` do the same.
var reloadSignals, rotateSignals, triggerSignals []os.Signal
