package reconcile_test

import (
	"errors"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/paykit-go/paykit/internal/provider/stripe"
	"github.com/paykit-go/paykit/internal/provider/stripe/sandbox"
	"github.com/paykit-go/paykit/internal/reconcile"
)

// elsewhere makes an account of the provider's that has nothing in it.
func (w *world) elsewhere() *stripe.Client {
	w.Helper()
	box, err := sandbox.New(sandbox.Config{SettleAfter: time.Millisecond})
	if err != nil {
		w.Fatal(err)
	}
	srv := httptest.NewServer(box)
	w.Cleanup(srv.Close)
	w.Cleanup(box.Close)
	api, err := stripe.New(stripe.Config{APIKey: testKey, APIBase: srv.URL, Env: w.log.Env(), Rate: 500})
	if err != nil {
		w.Fatal(err)
	}
	return api
}

// end is how far the log goes.
func (w *world) end() uint64 {
	w.Helper()
	info, err := w.log.Info(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	return info.LastSequence
}

// With another account's key nothing that the log knows is there. That is no reason to let go of anything: a repair is
// refused before it begins, a comparison says what may be wrong, and no account and no card is taken for gone.
func TestAnotherAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.linked("pm_card_visa")
	w.linked("pm_card_mastercard")
	b.charged()
	end, other := w.end(), w.elsewhere()

	report, err := reconcile.Run(t.Context(), w.log, other, reconcile.Options{ProviderID: stripeID, Fix: true})
	if !errors.Is(err, reconcile.ErrOtherAccount) || report != nil {
		t.Errorf("repaired with another account's key: %+v, %v", report, err)
	}
	if now := w.end(); now != end {
		t.Errorf("%d events were appended", now-end)
	}

	report, err = reconcile.Run(t.Context(), w.log, other, reconcile.Options{ProviderID: stripeID})
	if err != nil {
		t.Fatal(err)
	}
	found := map[difference]int{}
	for _, d := range report.Differences {
		found[difference{kind: d.Kind, cause: d.Cause}]++
		if d.Repairable || d.Proposal == "" {
			t.Errorf("difference %+v", d)
		}
	}
	want := map[difference]int{
		{kind: reconcile.KindCustomer, cause: reconcile.MissingThere}: 2, {kind: reconcile.KindPayment, cause: reconcile.MissingThere}: 1,
	}
	if diff := cmp.Diff(want, found, cmp.AllowUnexported(difference{})); diff != "" {
		t.Error(diff)
	}
	w.verified()
}
