package http

// Skipped says whether some of the bytes were no message.
func Skipped(p *Parser) bool { return p.skipped }
