// Package plant is where bugs are planted, one at a time, each against the invariant of its number: in a build with the tag
// "planted" PLANT_BUG says which. In any other build Bug is a constant 0 and the compiler leaves nothing of them. The
// checker proves itself on them: "make planted" builds the simulation once, runs it with each and fails if one survives.
package plant
