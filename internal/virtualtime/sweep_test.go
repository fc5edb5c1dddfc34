//go:build soak

package virtualtime_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// Deliveries are kept for 35 days and then erased, oldest first.
func TestInboxIsSwept(t *testing.T) { //nolint:paralleltest // see eventlogtest.Virtual
	inVirtualTime(t, func(w *world) {
		w.run("sweeper", w.log.SweepInbox)
		stored := func() (ids []string) {
			w.t.Helper()
			err := w.log.WalkDeliveries(w.t.Context(), stripeID, "", func(d eventlog.StoredDelivery) (bool, error) {
				var e struct {
					ID string `json:"id"`
				}
				err := json.Unmarshal(d.Body, &e)
				ids = append(ids, e.ID)
				return false, err
			})
			if err != nil {
				t.Fatal(err)
			}
			return ids
		}
		w.store("evt_old", `"mystery.happened"`, `{"id":"x"}`)
		w.pass(10 * day)
		w.store("evt_new", `"mystery.happened"`, `{"id":"x"}`)
		w.pass(24 * day)
		if got := stored(); !slices.Equal(got, []string{"evt_old", "evt_new"}) {
			t.Errorf("after 34 days there are %v", got)
		}
		w.pass(2 * day)
		if got := stored(); !slices.Equal(got, []string{"evt_new"}) {
			t.Errorf("after 36 days there are %v", got)
		}
	})
}
