// Package schema holds the public contract as documents: a JSON Schema (2020-12) of each command, query, answer, event and
// snapshot, and an AsyncAPI document of the subjects that they travel on.
//
// The files in files/ are generated from the Go types by this package's tests ("make schema"), one for each entity, with
// one definition for each thing. They are embedded, so that a program checks with what is served and published. Nothing is
// generated at run time.
package schema
