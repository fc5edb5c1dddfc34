package stripe

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/paykit-go/paykit/internal/provider"
)

// sameHead holds headOf against decode: whatever the body, the door stores it under what the normalizer reads in it.
func sameHead(t *testing.T, body []byte) {
	t.Helper()
	got, err := headOf(body)
	full, want := decode(body)
	if errors.Is(want, provider.ErrUnreadable) {
		want = nil
	}
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, decoded: %v", body, err, want)
	}
	if got.ID != full.ID || got.Type != full.Type || got.APIVersion != full.APIVersion || got.CustomerID != full.CustomerID || got.Observations != nil {
		t.Errorf("%s\nhead    %+v\ndecoded %+v", body, got, full)
	}
}

// oddBodies are those that two readers could read differently.
func oddBodies() []string {
	return []string{
		``, ` `, `null`, `[]`, `{}`, `"x"`, `{"id":"evt_1"}`, `{"type":"t"}`, `{"id":"evt_1","type":"t"}`, `{"id":"evt_1","type":"t"} `,
		`{"id":"evt_1","type":"t"}x`, `{"id":"evt_1","type":"t"}{}`, `{"id":"evt_1","type":"t",}`, `{"id":"evt_1","type":"t"`,
		`{"id":1,"type":"t"}`, `{"id":"evt_1","type":null}`, `{"id":null,"type":"t"}`, `{"id":"","type":"t"}`,
		`{"id":"evt_1","id":"evt_2","type":"t"}`, `{"ID":"evt_2","id":"evt_1","type":"t"}`, `{"Id":"evt_1","type":"t"}`,
		`{"\u0069d":"evt_1","type":"t"}`, `{"id":"evt_\u0031","type":"t"}`, `{"id":"e\"vt","type":"t"}`, "{\"id\":\"evt_\xff\",\"type\":\"t\"}",
		"{\"id\":\"evt_1\",\"type\":\"t\",\"x\":\"\xff\"}", `{"id":"evt_1","type":"t","object":"v2.core.event"}`, `{"id":"evt_1","type":"t","object":7}`,
		`{"id":"evt_1","type":"t","api_version":7}`, `{"id":"evt_1","type":"t","api_version":null}`, `{"id":"evt_1","type":"t","api_version":"2023-10-16"}`,
		`{"id":"evt_1","type":"t","data":null}`, `{"id":"evt_1","type":"t","data":"x"}`, `{"id":"evt_1","type":"t","data":{"object":null}}`,
		`{"id":"evt_1","type":"t","data":{"object":[]}}`, `{"id":"evt_1","type":"t","data":{"object":{"id":"cus_1","object":"customer"}}}`,
		`{"id":"evt_1","type":"t","data":{"object":{"id":1,"customer":"cus_1"}}}`, `{"id":"evt_1","type":"t","data":{"object":{"customer":"cus_1"}}}`,
		`{"id":"evt_1","type":"t","data":{"object":{"customer":"cus_1"}},"data":{"object":{"customer":"cus_2"}}}`,
		`{"id":"evt_1","type":"t","data":{"object":{"customer":"cus_1","customer":"cus_2"}}}`,
		`{"id":"evt_1","type":"t","data":{"object":{"customer":"cus_1"}},"data":{}}`,
		`{"id":"evt_1","type":"t","data":{"object":{"customer":{"id":"cus_1","object":"customer"}}}}`,
		`{"id":"evt_1","type":"t","data":{"object":{"customer":{"id":7}}}}`, `{"id":"evt_1","type":"t","data":{"object":{"customer":7}}}`,
		`{"id":"evt_1","type":"t","data":{"object":{"customer":""},"previous_attributes":{"customer":"cus_2"}}}`,
		`{"id":"evt_1","type":"t","data":{"object":{"customer":null},"previous_attributes":{"customer":"cus_2"}}}`,
		`{"id":"evt_1","type":"t","data":{"object":{"customer":"cus_1"},"previous_attributes":{"customer":"cus_2"}}}`,
		`{"id":"evt_1","type":"t","data":{"previous_attributes":{"customer":"cus_2"}}}`,
		`{"id":"evt_1","type":"t","data":{"object":{"customer":"cus_1"},"previous_attributes":7}}`,
		`{"data":{"object":{"id":"cus_3","customer":"cus_1"}},"type":"customer.deleted","id":"evt_1"}`,
		`{"id":"evt_1","type":"customer.created","data":{"object":{"object":"customer"}}}`,
		"{\"id\":\"evt_1\",\"type\":\"t\",\"data\":{\"object\":{\"cu\u017ftomer\":\"cus_1\"}}}", // folds to "customer"
	}
}

func TestHeadIsWhatDecodeReads(t *testing.T) {
	t.Parallel()
	for _, body := range oddBodies() {
		sameHead(t, []byte(body))
	}
	files, err := filepath.Glob("testdata/deliveries/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d deliveries, %v", len(files), err)
	}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		sameHead(t, body)
		var h head
		if !h.read(body) {
			t.Errorf("%s is not read at once", file)
		}
	}
}

func FuzzHead(f *testing.F) {
	for _, body := range oddBodies() {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) { sameHead(t, body) })
}

func BenchmarkHead(b *testing.B) {
	body, err := os.ReadFile("testdata/deliveries/payment_intent.succeeded.expanded.json")
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := headOf(body); err != nil {
			b.Fatal(err)
		}
	}
}
