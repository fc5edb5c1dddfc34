//go:build !crashpoints

package e2e_test

// buildTags are what the programs under test are built with.
const buildTags = ""
