package projections

// QueryFields lists the queries as "<entity>.<verb>", and the fields that each takes: what the contract's documents are
// held against.
func QueryFields() map[string][]string {
	fields := map[string][]string{}
	for _, e := range (&queries{}).endpoints() {
		fields[e.verb] = e.fields
	}
	return fields
}
