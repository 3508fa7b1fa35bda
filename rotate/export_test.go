package rotate

import "time"

// NewByClock is New with another clock: the system's, and a monotonic one.
func NewByClock(o Options, clock func() (time.Time, time.Duration)) (*Rotator, error) {
	return newRotator(o, clock)
}
