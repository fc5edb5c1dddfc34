package events_test

import (
	"testing"

	"github.com/paykit-go/paykit/internal/events"
)

// What a projector does with each event of a rebuild, and a direct get with each load.
func BenchmarkDecode(b *testing.B) {
	raw := encodedCharge(b)
	b.ReportAllocs()
	b.SetBytes(int64(len(raw)))
	for b.Loop() {
		if _, err := events.Decode(raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	e, err := events.Decode(encodedCharge(b))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := e.Encode(); err != nil {
			b.Fatal(err)
		}
	}
}

// The registry is asked on every decode and every append.
func BenchmarkKnown(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if !events.CommandRejected.Known() || !events.CustomerCreated.Known() {
			b.Fatal("not known")
		}
	}
}

func BenchmarkEntityOf(b *testing.B) {
	id := events.ChargeID("k")
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := events.EntityOf(id); !ok {
			b.Fatal("not found")
		}
	}
}

func BenchmarkDecide(b *testing.B) {
	h := newHistory(b)
	h.charge(createCharge(""))
	h.charge(payment(events.PaymentRequiresConfirmation))
	c := h.cause("")
	b.ReportAllocs()
	for b.Loop() {
		if e, err := events.DecideCharge(h.last(), payment(events.PaymentSucceeded), c); e == nil || err != nil {
			b.Fatal(err)
		}
	}
}

// A charge with a refund and a dispute, as its last event.
func encodedCharge(tb testing.TB) []byte {
	tb.Helper()
	h := newHistory(tb)
	create := createCharge("https://app.example.com/back")
	create.Metadata = map[string]string{"invoice": "2026-03", "plan": "starter"}
	for _, in := range []events.ChargeInput{
		create, payment(events.PaymentRequiresConfirmation), payment(events.PaymentSucceeded),
		events.RefundCharge{RefundID: events.RefundID("chg", "r"), Amount: 900, CommandDigest: "sha256:bb"},
		events.DisputeObserved{Report: events.DisputeReport{ID: "dp_1", Amount: 1900, Status: "needs_response", Reason: "fraudulent"}},
	} {
		h.charge(in)
	}
	raw, err := h.last().Encode()
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}
