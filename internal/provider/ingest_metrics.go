package provider

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// registered gives the collector that is registered under c's name: c itself, or the one that another part of the same
// process registered before. Without a registerer the collector counts for nobody.
func registered[C prometheus.Collector](reg prometheus.Registerer, c C) C {
	if reg == nil {
		return c
	}
	err := reg.Register(c)
	if already, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if existing, ok := already.ExistingCollector.(C); ok {
			return existing
		}
	}
	if err != nil {
		panic("provider: two metrics of one name and different shape: " + err.Error()) // a mistake in this package
	}
	return c
}
