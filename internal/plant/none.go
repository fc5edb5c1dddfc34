//go:build !plant_i1 && !plant_i2 && !plant_i3 && !plant_i4 && !plant_i5 && !plant_i6 && !plant_i7 && !plant_i8 && !plant_i9 && !plant_i10 && !plant_i11

package plant

// Bug is the number of the invariant that this build breaks; 0 = none.
const Bug = 0
