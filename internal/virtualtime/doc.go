// Package virtualtime holds the tests of what takes days: the real broker, worker, normalizer, commands and sandbox in one
// bubble of testing/synctest, where a day takes a second. It has no code of its own.
package virtualtime
