//go:build !planted

package plant

// Bug is the number of the invariant that this build breaks; 0 = none.
const Bug = 0
