package sandbox

import (
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestForms_nesting(t *testing.T) {
	rows := []struct {
		name, raw string
		want      map[string]string
	}{
		{"plain", "a=1&b=", map[string]string{"a": "1", "b": ""}},
		{"object", "a[b]=1&a[c][d]=2", map[string]string{"a[b]": "1", "a[c][d]": "2"}},
		{"list by index", "a[0][b]=1&a[1][b]=2", map[string]string{"a[0][b]": "1", "a[1][b]": "2"}},
		{"list by appending", "a[]=x&a[]=y", map[string]string{"a[0]": "x", "a[1]": "y"}},
		{"one item without its index", "a[][b]=1&a[][c]=2", map[string]string{"a[0][b]": "1", "a[0][c]": "2"}},
		{"escaped", "a%5Bb%5D=%26+%3D", map[string]string{"a[b]": "& ="}},
		{"unclosed", "a[b=1", map[string]string{"a[b]": "1"}},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			f, err := parseForm(row.raw)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(row.want, f.flat); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestForms_items_in_order(t *testing.T) {
	f, err := parseForm("a[10]=k&a[2]=c&a[0]=a")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "c", "k"}, f.params().list("a")); diff != "" {
		t.Error(diff)
	}
}

// FuzzParseForm: whatever comes in, reading it does not panic, nothing sent goes unnoticed, and writing the parameters in
// another order means the same.
func FuzzParseForm(f *testing.F) {
	for _, seed := range []string{"a=1", "a[b][0][c]=d&a[b][1][c]=e", "a[]=1&a[]=2", "a[b", "[]=x", "a]=1", "%zz", "a=1;b=2", "a[b]=1&a=2", "=&=&[][][]=", "é[ü]=ß"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		form, err := parseForm(raw)
		if err != nil {
			if err.status != 400 {
				t.Errorf("status %d", err.status)
			}
			return
		}
		if len(form.flat) > 0 && form.params().done() == nil {
			t.Errorf("nothing was read, yet nothing is unknown: %v", form.flat)
		}
		values := url.Values{}
		for k, v := range form.flat {
			values.Set(k, v)
		}
		again, err := parseForm(values.Encode())
		if err != nil {
			t.Fatalf("its own flat form is refused: %v", err)
		}
		if again.canonical() != form.canonical() {
			t.Errorf("%q and %q", form.canonical(), again.canonical())
		}
	})
}
