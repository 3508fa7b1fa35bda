package main

import "os"

// Windows has no such signals: `capagent reload` and `rotate` do the same.
var reloadSignals, rotateSignals, triggerSignals []os.Signal
