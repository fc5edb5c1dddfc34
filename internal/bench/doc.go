// Package bench holds the figures of docs/performance.md: each is a ratio between the engine and the bare thing it is
// built on, measured in turn within one run, because a machine's speed drifts. Durability stays on: every write is
// synced to disk before it is acknowledged. Run it with `make bench`.
package bench
