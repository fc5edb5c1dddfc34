// Package daemon is what the three processes share: their configuration, the connection to NATS, the health and
// metrics endpoints, and the wiring of each, so that cmd/ingest, cmd/worker, cmd/projector and the all-in-one of
// `paykit dev` run the same code. It holds no business rule.
package daemon
