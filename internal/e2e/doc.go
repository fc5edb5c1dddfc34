// Package e2e holds the whole system's tests: the real programs, built and run as processes against a nats-server
// process and the sandbox, driven through the Go client, killed and started again. It has no code of its own.
package e2e
