package projections

import (
	"path/filepath"
	"testing"
)

// TestViews: what is folded in by hand, in pieces and once more, is what one fold gives; cleared views are new ones.
func TestViews(t *testing.T) {
	entries := randomHistory(t, 7, 120)
	whole := openTestStore(t, filepath.Join(t.TempDir(), FileName))
	defer closeStore(t, whole)
	if err := applyAll(whole, entries); err != nil {
		t.Fatal(err)
	}
	want := testDigest(t, whole)
	v, err := OpenViews(filepath.Join(t.TempDir(), FileName))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	}()
	for round := range 2 {
		for _, piece := range splits(entries, []byte{3, 40, 90}) {
			if err := v.Apply(piece); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
		}
		if err := v.Apply(entries[50:]); err != nil {
			t.Fatalf("read again: %v", err)
		}
		got, err := v.Digest(t.Context())
		if err != nil || got.Digest != want.Digest || got.Sequence != want.Sequence {
			t.Errorf("round %d: %+v, %v; want %+v", round, got, err, want)
		}
		if err := v.Clear(); err != nil {
			t.Fatal(err)
		}
		if got, err = v.Digest(t.Context()); err != nil || got.Sequence != 0 || got.Rows["charges"] != 0 {
			t.Errorf("cleared: %+v, %v", got, err)
		}
	}
}
