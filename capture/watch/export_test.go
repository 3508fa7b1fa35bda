package watch

// JudgeByQuietTime makes a Watcher act as where the system can't tell of writers.
func JudgeByQuietTime(o *Options) { o.quiet = true }

// LookOnlyOnEvents leaves a file that is being written alone until an event comes.
func LookOnlyOnEvents(o *Options) { o.onlyEvents = true }

// JudgeByLease undoes JudgeByQuietTime.
func JudgeByLease(o *Options) { o.quiet = false }
