// Package crashpoint names the places where a process may die and must not have lost anything. In an ordinary build it
// does nothing and costs nothing. In one with the tag "crashpoints" the process kills itself, as a power cut would, at the
// place that PAYKIT_CRASH names: internal/e2e does this at every point that it finds in the source, starts the process
// again and holds log, views and the provider's books against each other. To add a place, call [Hit] there with a name of
// its own, and say in the table of internal/e2e what load comes by.
package crashpoint
