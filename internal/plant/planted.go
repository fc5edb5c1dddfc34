//go:build planted

package plant

import (
	"os"
	"strconv"
)

// Bug is the number of the invariant that this process breaks: PLANT_BUG, 0 = none.
var Bug = number(os.Getenv("PLANT_BUG")) //nolint:gochecknoglobals // of a build that nobody ships

func number(text string) int {
	if text == "" {
		return 0
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		panic("PLANT_BUG must be the number of an invariant: " + err.Error())
	}
	return n
}
