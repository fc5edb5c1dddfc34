//go:build !unix

package sandbox

import "os"

// lockFile does nothing where there are no such locks: take care not to start two on one file.
func lockFile(*os.File) error { return nil }
