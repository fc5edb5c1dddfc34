package projections

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"go.etcd.io/bbolt"

	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// shadowName is the file of a projector that runs beside the live one (Config.Shadow).
const shadowName = FileName + ".shadow"

// What the holder of a file can be asked for, by a file beside it that ends so. bbolt lets one process have a file, so who
// wants to look at one in use asks for a copy, which is made in one read transaction and nobody waits for. The folder is the
// interface because a shadow answers no queries, and because whoever may write there has the views anyway. A crash leaves a
// wish, which the next start forgets, or half a copy, which the next one writes over.
const (
	wantedSuffix = ".copy-wanted" // holds the least sequence that the copy is to have
	copySuffix   = ".copy"
	giveSuffix   = ".give" // the shadow is to be handed over
)

// errGiven ends a shadow whose file was handed over.
var errGiven = errors.New("the shadow's views were handed over: end this process, the live projector has them")

// forgetWishes removes what an earlier process was asked for.
func (p *Projector) forgetWishes() error {
	var all error
	for _, suffix := range []string{wantedSuffix, giveSuffix} {
		if err := os.Remove(p.path + suffix); !errors.Is(err, os.ErrNotExist) {
			all = errors.Join(all, err)
		}
	}
	return all
}

// copyIfWanted copies the views, if somebody asked for that and they have the sequence that was asked for.
func (p *Projector) copyIfWanted() error {
	text, err := os.ReadFile(p.path + wantedSuffix)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	least, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil || p.store.Load().has() < least {
		return nil //nolint:nilerr // half written: whole at the next look
	}
	if err := copyViews(p.store.Load(), p.path+copySuffix); err != nil {
		return err
	}
	return os.Remove(p.path + wantedSuffix)
}

// copyViews writes a copy under a name of its own first: who sees it under its name sees all of it.
func copyViews(s *store, to string) error {
	if err := s.view(func(tx *bbolt.Tx) error { return tx.CopyFile(to+"-", 0o600) }); err != nil {
		return err
	}
	return os.Rename(to+"-", to)
}

// give lets go of the shadow's file and hands it to the live projector.
func (p *Projector) give() error {
	// A crash before the rename leaves the shadow, for the next try. The lock is let go of after it: nobody may begin a shadow
	// in between.
	if err := os.Rename(p.path, filepath.Join(filepath.Dir(p.path), nextName)); err != nil {
		return err
	}
	return errors.Join(p.store.Load().close(), os.Remove(p.path+giveSuffix), syncDir(filepath.Dir(p.path)))
}

// ShadowSwitch puts the shadow's views into the live ones' place, as [Rebuild] does with rebuilt ones. A running shadow lets go
// of them and ends. wait bounds it; 0 = 30 s.
func ShadowSwitch(ctx context.Context, log *eventlog.Log, dir string, wait time.Duration) (*Handover, error) {
	if wait == 0 {
		wait = handoverWait
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	path := filepath.Join(dir, shadowName)
	if _, err := os.Lstat(path); err != nil {
		return nil, fmt.Errorf("there is no shadow: %w (projector --shadow makes one)", err)
	}
	s, err := openStore(path, storeOptions{walk: walkAlways})
	switch {
	case err == nil:
		return handOver(ctx, log, dir, s, wait)
	case !errors.Is(err, ErrLocked):
		return nil, fmt.Errorf("the shadow can't be used: %w", err)
	}
	if err := os.Remove(filepath.Join(dir, swappedName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if err := os.WriteFile(path+giveSuffix, nil, 0o600); err != nil {
		return nil, err
	}
	err = await(ctx, func() bool {
		_, err := os.Lstat(path)
		return errors.Is(err, os.ErrNotExist)
	})
	if err != nil {
		return nil, fmt.Errorf("the shadow does not let go of its views: %w", errors.Join(err, os.Remove(path+giveSuffix)))
	}
	return awaitHandover(ctx, log, dir)
}

// await looks until something is so, or ctx ends.
func await(ctx context.Context, so func() bool) error {
	tick := time.NewTicker(folderLook / 2)
	defer tick.Stop()
	for !so() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// Difference is a row that is not the same in the live views and in the shadow's.
type Difference struct {
	View    string   `json:"view"`
	ID      string   `json:"id"`
	Only    string   `json:"only,omitempty"`    // "live" or "shadow": the other has no such row
	Differs []string `json:"differs,omitempty"` // the snapshot's fields, or "(place)" for where the row stands
}

// ShadowDiff takes a copy of the shadow's views and one of the live ones, brings the shadow's to the sequence of the live ones,
// and calls yield for each row that differs. Neither projector is held up. It answers the sequence that both were at. wait
// bounds the time until both copies are there; 0 = 30 s.
func ShadowDiff(ctx context.Context, log *eventlog.Log, dir string, wait time.Duration, yield func(Difference) error) (sequence uint64, err error) {
	if wait == 0 {
		wait = handoverWait
	}
	copying, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	shadow, err := copyOf(copying, filepath.Join(dir, shadowName), 0)
	if err != nil {
		return 0, fmt.Errorf("the shadow's views: %w (projector --shadow makes them)", err)
	}
	defer func() { err = errors.Join(err, shadow.close(), os.Remove(shadow.path)) }()
	at, _, err := shadow.checkpoint()
	if err != nil {
		return 0, err
	}
	live, err := copyOf(copying, filepath.Join(dir, FileName), at)
	if err != nil {
		return 0, fmt.Errorf("the live views: %w", err)
	}
	defer func() { err = errors.Join(err, live.close(), os.Remove(live.path)) }()
	// The live program may be an older one: only the shadow's views are gone on with, by the program that made them.
	sequence, _, err = live.checkpoint()
	if err != nil {
		return 0, err
	}
	if err := shadow.fill(ctx, log, sequence, nil); err != nil {
		return 0, err
	}
	if at, _, err := shadow.checkpoint(); err != nil || at != sequence {
		return 0, errors.Join(err, fmt.Errorf("the shadow is at sequence %d, the live views at %d, of another log", at, sequence))
	}
	return sequence, live.view(func(was *bbolt.Tx) error {
		return shadow.view(func(is *bbolt.Tx) error { return differences(ctx, was, is, yield) })
	})
}

// copyOf opens a copy of a file that may be in use.
func copyOf(ctx context.Context, path string, least uint64) (*store, error) {
	if _, err := os.Lstat(path); err != nil {
		return nil, err
	}
	to := path + copySuffix
	if err := os.Remove(to); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	db, err := openBolt(path, storeOptions{})
	if err == nil { // nobody has it
		s := &store{db: db, path: path}
		if err := errors.Join(copyViews(s, to), s.close()); err != nil {
			return nil, err
		}
		return openForeign(to)
	}
	if err := os.WriteFile(path+wantedSuffix, strconv.AppendUint(nil, least, 10), 0o600); err != nil {
		return nil, err
	}
	err = await(ctx, func() bool {
		_, err := os.Lstat(to)
		return err == nil
	})
	if err != nil {
		return nil, fmt.Errorf("the process that has %s makes no copy of it: %w", path, errors.Join(err, os.Remove(path+wantedSuffix)))
	}
	return openForeign(to)
}

// openForeign opens a views' file of any schema.
func openForeign(path string) (*store, error) {
	db, err := openBolt(path, storeOptions{noSync: true})
	if err != nil {
		return nil, err
	}
	s := &store{db: db, path: path}
	err = s.view(func(tx *bbolt.Tx) error {
		if tx.Bucket([]byte(bucketMeta)) == nil {
			return fmt.Errorf("%s is no views' file", path)
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// differences walks the views of both in the order of their keys.
func differences(ctx context.Context, live, shadow *bbolt.Tx, yield func(Difference) error) error {
	for _, bucket := range buckets() {
		name := viewName(bucket)
		if name == "" {
			continue // an index: made of the rows
		}
		var here, there cursor
		here.open(live, bucket)
		there.open(shadow, bucket)
		for here.key != nil || there.key != nil {
			if err := ctx.Err(); err != nil {
				return err
			}
			d := Difference{View: name}
			order := bytes.Compare(here.key, there.key)
			switch {
			case there.key == nil || here.key != nil && order < 0:
				d.ID, d.Only = string(here.key), "live"
				here.next()
			case here.key == nil || order > 0:
				d.ID, d.Only = string(there.key), "shadow"
				there.next()
			default:
				d.ID = string(here.key)
				var err error
				if d.Differs, err = rowDiffers(here.key, here.value, there.value); err != nil {
					return err
				}
				here.next()
				there.next()
			}
			if d.Only != "" || len(d.Differs) > 0 {
				if err := yield(d); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// cursor is a place in a bucket, which may not be there.
type cursor struct {
	c          *bbolt.Cursor
	key, value []byte
}

func (c *cursor) open(tx *bbolt.Tx, bucket string) {
	if b := tx.Bucket([]byte(bucket)); b != nil {
		c.c = b.Cursor()
		c.key, c.value = c.c.First()
	}
}

func (c *cursor) next() { c.key, c.value = c.c.Next() }

// rowDiffers names what is not the same in two rows.
func rowDiffers(key, live, shadow []byte) ([]string, error) {
	if bytes.Equal(live, shadow) {
		return nil, nil
	}
	was, err := decodeRow(key, live)
	if err != nil {
		return nil, fmt.Errorf("the live row can't be read, it may be of another layout: %w", err)
	}
	is, err := decodeRow(key, shadow)
	if err != nil {
		return nil, err
	}
	var a, b map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(was.snapshot, &a), json.Unmarshal(is.snapshot, &b)); err != nil {
		return nil, err
	}
	differ := map[string]bool{"(place)": was.sequence != is.sequence || was.first != is.first || was.version != is.version || was.state != is.state}
	for name := range a {
		differ[name] = !bytes.Equal(a[name], b[name])
	}
	for name := range b {
		differ[name] = !bytes.Equal(a[name], b[name])
	}
	maps.DeleteFunc(differ, func(_ string, is bool) bool { return !is })
	return slices.Sorted(maps.Keys(differ)), nil
}
