package capture

import "time"

// Snap is SnapLen or its default, never more than MaxSnapLen.
func (o Options) Snap() uint32 {
	if o.SnapLen == 0 {
		return MaxSnapLen
	}
	return min(o.SnapLen, MaxSnapLen)
}

// Memory is Buffer or its default.
func (o Options) Memory() int64 {
	if o.Buffer <= 0 {
		return DefaultBuffer
	}
	return o.Buffer
}

// RetireTime is Retire or its default.
func (o Options) RetireTime() time.Duration {
	if o.Retire <= 0 {
		return DefaultRetire
	}
	return o.Retire
}
