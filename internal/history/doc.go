// Package history works with the log as a whole: it says in words what changed between two points, gives stored events out
// again (to a file, a pipe, a subject), and takes such a file into an empty installation. It calls no provider, changes no
// entity and knows no view.
package history
