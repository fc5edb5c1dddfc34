// Package verify checks the event log: that nothing is missing or was changed, and that every entity's history is one
// that PayKit's rules allow. It owns those rules a second time, on purpose: a checker that asks the deciding code what is
// right would find nothing wrong with its mistakes. It reads the log once, in order, with one small record per entity in
// memory, changes nothing, and knows neither the views (whoever has both compares them) nor the provider.
package verify
