package main

import "os"

// Windows has no such signals: `capagent reload` does the same.
var reloadSignals, otherSignals []os.Signal
