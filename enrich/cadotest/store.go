package cadotest

import "io"

// Store is a minimal S3.
type Store struct{}

func (s *Store) has(bucket, key string) bool { return false }

func (s *Store) open(bucket, key string) io.ReadCloser { return nil }
