//go:build crashpoints

package e2e_test

// buildTags are what the programs under test are built with: they can kill themselves.
const buildTags = "crashpoints"
