// Package plant is where bugs are planted, one at a time and by build tag: "plant_i1" to "plant_i11", each against the
// invariant of its number. Without a tag Bug is a constant 0 and the compiler leaves nothing of a planted bug. The checker
// proves itself on them: "make planted" builds the simulation with each and fails if one survives.
package plant
