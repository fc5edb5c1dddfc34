//go:build plant_i9

package plant

// Bug is the number of the invariant that this build breaks.
const Bug = 9
