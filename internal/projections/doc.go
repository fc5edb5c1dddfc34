// Package projections folds the LOG into views and answers the queries of the public contract from them.
//
// The views live in one bbolt file, views.db. They are a function of the LOG alone: rows are the snapshots as the
// events carry them, byte for byte, and a rebuild from the first event gives the same rows, so the same digest (see
// [Result]). They hold no personal data: a customer's profile is read from PROFILES when a query answers.
//
// The checkpoint (the last sequence that the views hold) is written in the same transaction as the rows, so a crash
// leaves either both or neither, and the next start goes on behind the checkpoint. The projector never skips: at a
// missing sequence, a gap in an entity's versions or an event type that it does not know it stops and says which.
// A file that is damaged, foreign, of another schema, or of another LOG is put aside under another name and the views
// are built anew; a file is never repaired. bbolt has no checksums, so rows carry their own, buckets the sum of their
// entries', and opening a file looks at its pages: whatever rotted is noticed when it is read, and every few hours.
//
// Who holds the live file's lock replaces it, nobody else: a rebuilt file or a shadow's is handed to the running projector
// under another name in the same folder.
//
// The package reads the LOG and writes views.db; it appends nothing and calls nobody.
package projections
