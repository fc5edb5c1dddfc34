package stripe

import (
	"errors"
	"net/http"
	"testing"
)

// A key can be changed while the client is in use: the next call is made with it, lists by raw paths included.
func TestSetKey(t *testing.T) {
	sent := make(chan string, 10)
	c := newClient(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
		sent <- r.Header.Get("Authorization")
		_, _ = w.Write([]byte(`{"id":"pi_1","status":"succeeded","data":[]}`))
	}), nil)
	call := func(want string) {
		t.Helper()
		if _, err := c.Payment(t.Context(), "pi_1"); err != nil {
			t.Fatal(err)
		}
		if _, err := c.eventPage(t.Context(), eventsSince(1)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if got := <-sent; got != want {
				t.Errorf("sent with %q, want %q", got, want)
			}
		}
	}
	if err := c.SetKey("rk_test_new"); err != nil {
		t.Fatal(err)
	}
	call("Bearer rk_test_new")
	for key, want := range map[string]error{
		"": ErrKeyMissing, "pk_test_x": ErrKeyUnknown, "sk_test_x y": ErrKeyUnknown, "sk_live_x": ErrLiveKeyBase,
	} {
		if err := c.SetKey(key); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", key, err, want)
		}
	}
	call("Bearer rk_test_new")
}

func TestSetKeyKeepsTheMode(t *testing.T) {
	c, err := New(Config{APIKey: "sk_live_a", APIBase: LiveBase, Env: "env"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetKey("rk_live_b"); err != nil {
		t.Error(err)
	}
	if err := c.SetKey("sk_test_b"); !errors.Is(err, ErrKeyMode) {
		t.Errorf("a key of the other mode: %v", err)
	}
}
