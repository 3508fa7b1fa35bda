package watch

// closes: Windows tells nobody of a file being closed.
type closes struct{}

func openCloses() (*closes, error) { return nil, nil }

func (*closes) run(func([]event) bool)     {}
func (*closes) add(string) (string, error) { return "", nil }
func (*closes) drop(string)                {}
func (*closes) close()                     {}
