//go:build crashpoints

package crashpoint

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
)

// Enabled tells whether this build can kill itself.
const Enabled = true

// planned is what PAYKIT_CRASH says: the point and at which of its hits, "worker.payment_created:2".
var planned = func() (p struct { //nolint:gochecknoglobals // the process has one end
	point string
	nth   int64
},
) {
	text := os.Getenv("PAYKIT_CRASH")
	if text == "" {
		return p
	}
	point, nth, _ := strings.Cut(text, ":")
	n, err := strconv.ParseInt(nth, 10, 64)
	if err != nil || n < 1 {
		fmt.Fprintf(os.Stderr, "PAYKIT_CRASH=%q is not point:nth\n", text)
		os.Exit(2)
	}
	p.point, p.nth = point, n
	return p
}()

var hits atomic.Int64 //nolint:gochecknoglobals // of the one planned point

// Hit is a place where the process may die: at the planned hit of the planned point it sends itself SIGKILL.
func Hit(point string) {
	if point != planned.point || hits.Add(1) != planned.nth {
		return
	}
	fmt.Fprintf(os.Stderr, "crash point %s, hit %d\n", planned.point, planned.nth)
	self, err := os.FindProcess(os.Getpid())
	if err == nil {
		err = self.Kill()
	}
	if err != nil {
		panic(err)
	}
	select {} // the signal is on its way; nothing of this goroutine comes after
}
