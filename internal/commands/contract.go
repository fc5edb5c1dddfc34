package commands

import (
	"fmt"
	"sync"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/schema"
)

// bodies are the published schemas of the commands' bodies, by verb, compiled with the first command.
var bodies = sync.OnceValue(func() map[string]schema.Schema { //nolint:gochecknoglobals // made once, never changed
	all, err := compileBodies()
	if err != nil {
		panic("the program was built with broken schemas: " + err.Error())
	}
	return all
})

func compileBodies() (map[string]schema.Schema, error) {
	catalog, err := schema.Open()
	if err != nil {
		return nil, err
	}
	validator, err := catalog.Validator()
	if err != nil {
		return nil, err
	}
	all := map[string]schema.Schema{}
	for _, verb := range Verbs() {
		n, err := catalog.Find(schema.KindCommand, verb)
		if err != nil {
			return nil, err
		}
		if all[verb], err = validator.Compile(n); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// published refuses a body that is not as the published schema says. It is the second net: what is wrong with a body is found,
// named and explained by the command's own parse, and a test shows that the two agree. Whatever got through there and not
// here would be taken in though the contract forbids it.
func published(verb string, body object) *events.Error {
	field, ok := bodies()[verb].Fault(body)
	if ok {
		return nil
	}
	return invalid(field, "%s", fmt.Sprintf("is not as the contract has it; see: paykit schema %s", verb))
}
