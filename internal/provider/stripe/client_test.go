package stripe

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/provider"
)

// script answers calls from a list, by method and end of path, each line once and in order; the last one of its kind
// stays. It is for the moments that no simulator can be brought into.
type script struct {
	mu    sync.Mutex
	lines []line
	calls []string
}

type line struct {
	call   string // "POST /confirm"
	status int
	body   string
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, r.Method+" "+r.URL.Path)
	for i, l := range s.lines {
		method, suffix, _ := strings.Cut(l.call, " ")
		if r.Method != method || !strings.HasSuffix(r.URL.Path, suffix) {
			continue
		}
		if slices.ContainsFunc(s.lines[i+1:], func(later line) bool { return later.call == l.call }) {
			s.lines = slices.Delete(s.lines, i, i+1)
		}
		w.WriteHeader(l.status)
		_, _ = w.Write([]byte(l.body))
		return
	}
	w.WriteHeader(http.StatusTeapot)
}

func play(t *testing.T, lines ...line) (*Client, *script) {
	t.Helper()
	s := &script{lines: lines}
	return newClient(t, serve(t, s.ServeHTTP), nil), s
}

func intent(status string) string {
	return fmt.Sprintf(`{"id":"pi_1","status":%q,"amount":100}`, status)
}

const (
	unexpectedState = `{"error":{"type":"invalid_request_error","code":"payment_intent_unexpected_state","message":"no"}}`
	serverError     = `{"error":{"type":"api_error","message":"no"}}`
)

func TestConfirmInOddMoments(t *testing.T) {
	const post, get = "POST /pi_1/confirm", "GET /pi_1"
	tests := []struct {
		name   string
		lines  []line
		status events.PaymentStatus
		class  provider.Class
		failed bool
	}{
		{"paid meanwhile", []line{{post, 400, unexpectedState}, {get, 200, intent("succeeded")}}, events.PaymentSucceeded, 0, false},
		{"under way meanwhile", []line{{post, 400, unexpectedState}, {get, 200, intent("processing")}}, events.PaymentProcessing, 0, false},
		{"then the question is not answered", []line{{post, 400, unexpectedState}, {get, 500, serverError}}, "", provider.InDoubt, true},
		{"the method is gone", []line{{post, 400, `{"error":{"type":"invalid_request_error","code":"resource_missing","param":"payment_method"}}`}}, "", provider.Invalid, true},
		{"the answer has another shape", []line{{post, 200, `{"id":"pi_1","amount":"much"}`}}, "", provider.InDoubt, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, _ := play(t, tt.lines...)
			p, err := c.ConfirmPayment(t.Context(), "k", "pi_1", provider.ConfirmRequest{MethodID: "pm_1"})
			if (err != nil) != tt.failed || p.Status != tt.status || (tt.failed && provider.ClassOf(err) != tt.class) {
				t.Errorf("got %+v, %v", p, err)
			}
		})
	}
}

func TestDeclineWithoutItsPayment(t *testing.T) {
	c, _ := play(t, line{"POST /confirm", 402, `{"error":{"type":"card_error","code":"expired_card","charge":"ch_1","payment_method":{"id":"pm_1"}}}`})
	p, err := c.ConfirmPayment(t.Context(), "k", "pi_1", provider.ConfirmRequest{MethodID: "pm_1"})
	if err != nil {
		t.Fatal(err)
	}
	if p.ID != "pi_1" || p.ChargeID != "ch_1" || p.ProviderMethodID != "pm_1" || p.Status != events.PaymentRequiresMethod ||
		p.Failure == nil || *p.Failure != *failure("expired_card", "") {
		t.Errorf("got %+v", p)
	}
}

func TestCancelInOddMoments(t *testing.T) {
	const post, get = "POST /pi_1/cancel", "GET /pi_1"
	tests := []struct {
		name   string
		lines  []line
		status events.PaymentStatus
		class  provider.Class
		sent   int // cancels
	}{
		{"under way: no key is spent on it", []line{{get, 200, intent("processing")}}, "", provider.Transient, 0},
		{"final: nothing is sent", []line{{get, 200, intent("succeeded")}}, events.PaymentSucceeded, 0, 0},
		{
			"paid between question and cancel",
			[]line{{get, 200, intent("requires_action")}, {post, 400, unexpectedState}, {get, 200, intent("succeeded")}},
			events.PaymentSucceeded, 0, 1,
		},
		{
			"under way between question and cancel",
			[]line{{get, 200, intent("requires_action")}, {post, 400, unexpectedState}, {get, 200, intent("processing")}},
			"", provider.Transient, 1,
		},
		{"the cancel fails", []line{{get, 200, intent("requires_action")}, {post, 500, serverError}}, "", provider.InDoubt, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, s := play(t, tt.lines...)
			p, err := c.CancelPayment(t.Context(), "k", "pi_1", false)
			if p.Status != tt.status || (err == nil) != (tt.status != "") || (err != nil && provider.ClassOf(err) != tt.class) {
				t.Errorf("got %+v, %v", p, err)
			}
			sent := 0
			for _, call := range s.calls {
				if strings.HasSuffix(call, "/cancel") {
					sent++
				}
			}
			if sent != tt.sent {
				t.Errorf("%d cancels were sent, want %d: %v", sent, tt.sent, s.calls)
			}
		})
	}
}

func TestExpireWhileBuyerPays(t *testing.T) {
	c, _ := play(t,
		line{"POST /cs_1/expire", 400, `{"error":{"type":"invalid_request_error","message":"a payment is in progress"}}`},
		line{"GET /cs_1", 200, `{"id":"cs_1","mode":"payment","status":"open"}`})
	_, err := c.ExpireSession(t.Context(), "k", "cs_1")
	if err == nil || provider.ClassOf(err) != provider.Transient {
		t.Errorf("got %v, want to try again later", err)
	}
}

func TestDetachRefused(t *testing.T) {
	tests := []struct {
		name, customer string
		ok             bool
	}{{"attached to nobody", `null`, true}, {"attached all the same", `"cus_1"`, false}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, _ := play(t,
				line{"POST /pm_1/detach", 400, `{"error":{"type":"invalid_request_error","message":"not attached"}}`},
				line{"GET /pm_1", 200, `{"id":"pm_1","type":"card","customer":` + tt.customer + `}`})
			if err := c.DetachMethod(t.Context(), "k", "pm_1"); (err == nil) != tt.ok {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestRefundOfEverythingIsNotSent(t *testing.T) {
	c, s := play(t)
	_, err := c.CreateRefund(t.Context(), "k", provider.RefundRequest{PaymentID: "pi_1"})
	if err == nil || provider.ClassOf(err) != provider.Invalid || len(s.calls) != 0 {
		t.Errorf("got %v after %v", err, s.calls)
	}
}

// A list that ends early, because its oldest events leave it meanwhile, still gives what was read.
func TestDeliveriesThatLeaveTheList(t *testing.T) {
	const page = `{"object":"list","has_more":%t,"data":[{"id":"evt_2","type":"a"},{"id":"evt_1","type":"a"}]}`
	c, _ := play(t, line{"GET /v1/events", 200, fmt.Sprintf(page, true)}, line{"GET /v1/events", 200, `{"object":"list","has_more":false,"data":[]}`})
	var got []string
	err := c.ListDeliveries(t.Context(), unix(1), func(body []byte) error {
		e, _ := parse(body)
		got = append(got, e.ID)
		return nil
	})
	if err != nil || !slices.Equal(got, []string{"evt_1", "evt_2"}) {
		t.Errorf("got %v, %v", got, err)
	}
}
