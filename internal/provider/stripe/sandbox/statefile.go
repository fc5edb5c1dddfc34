package sandbox

import (
	"bytes"
	"container/heap"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/maphash"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// ErrInUse says that another process, or another Server, has the state file open.
var ErrInUse = errors.New("in use by another process")

// errDamaged is a state file that can't be used.
var errDamaged = errors.New("damaged, or of another version")

const (
	stateFormat  = "paykit sandbox state"
	stateVersion = 1
	// stateLine frames a step: the checksum goes over the steps so far, so that a line which is missing shows too.
	stateLine    = `{"sum":"%08x","step":`
	stateLineEnd = "}\n"
)

// stateHeader is the first line of a state file.
type stateHeader struct {
	Format  string `json:"format"`
	Version int    `json:"version"`
	Base    string `json:"base"` // of the hosted pages whose addresses the file holds, or empty
}

// record is one change within a step: an object as it has become, or that it has gone.
type record struct {
	Put    string          `json:"put,omitempty"`  // the table
	Drop   string          `json:"drop,omitempty"` // the table
	ID     string          `json:"id"`
	Object json.RawMessage `json:"object,omitempty"` // as the API shows it
	Hidden json.RawMessage `json:"hidden,omitempty"` // what the API does not show of it
}

// append renders r as json.Marshal does, without looking at what is JSON already.
func (r record) append(b []byte) []byte {
	b = append(b, `{"put":"`...)
	b = append(b, r.Put...)
	b = append(b, `","id":`...)
	b = append(b, snapshot(r.ID)...)
	if r.Object != nil {
		b = append(append(b, `,"object":`...), r.Object...)
	}
	if r.Hidden != nil {
		b = append(append(b, `,"hidden":`...), r.Hidden...)
	}
	return append(b, '}')
}

// stateFile is a journal: a header, then one line for each step with every object that it changed. A step is one write,
// made before anyone can see what it did; one that was cut off by the end of the process was seen by nobody and is dropped
// at the next start. The journal is then written anew with one line for each object. It is not synced: it
// outlives the process, not the machine's power, which is enough for a stand-in. Guarded by Server.mu, but for failed.
type stateFile struct {
	f      *os.File
	touch  touchList
	sum    uint32
	seed   maphash.Seed
	line   []byte // used again
	failed atomic.Pointer[error]

	counting sync.Mutex
	inHand   int // requests; guarded by counting
}

// openState loads the state file, or begins one.
func (s *Server) openState() error {
	path := s.cfg.StateFile
	old, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err //nolint:wrapcheck // New says what it is about
	}
	defer old.Close()
	if err := lockFile(old); err != nil {
		return err
	}
	raw, err := io.ReadAll(old)
	if err != nil {
		return err //nolint:wrapcheck // New says what it is about
	}
	if err := s.load(raw); err != nil {
		// A crash after the rename leaves no state file: the next start makes one, without this warning.
		aside, moveErr := setAside(path, s.cfg.Now())
		if moveErr != nil {
			return moveErr
		}
		s.cfg.Logger.Warn().Err(err).Str("aside", aside).Msg("sandbox state put aside, starting empty")
		s.tables = newTables()
	}
	s.plan()
	return s.rewrite(path)
}

// setAside renames a file that can't be used, so that someone can look at it, and answers its new path.
func setAside(path string, now time.Time) (string, error) {
	base := path + ".bad-" + now.UTC().Format("20060102T150405.000Z")
	to := base
	for n := 2; ; n++ {
		if _, err := os.Lstat(to); errors.Is(err, os.ErrNotExist) {
			break
		}
		to = base + "-" + strconv.Itoa(n)
	}
	return to, os.Rename(path, to)
}

// load reads a state file into the tables, which are empty. Nothing at all is an empty state.
func (s *Server) load(raw []byte) error {
	if len(raw) == 0 {
		return nil
	}
	head, rest, whole := bytes.Cut(raw, []byte("\n"))
	var h stateHeader
	if err := json.Unmarshal(head, &h); err != nil || !whole || h.Format != stateFormat || h.Version != stateVersion {
		return fmt.Errorf("%w: header", errDamaged)
	}
	last := map[string]map[string]record{} // by table and id
	order := map[string][]string{}
	sum := crc32.ChecksumIEEE(head)
	for n := 2; ; n++ {
		line, more, whole := bytes.Cut(rest, []byte("\n"))
		if !whole {
			break // the end, or a step that was cut off
		}
		step, err := readStep(line, &sum)
		if err != nil {
			return fmt.Errorf("%w: line %d", err, n)
		}
		for _, r := range step {
			r.follow(last, order)
		}
		rest = more
	}
	for _, t := range s.stores() {
		for _, id := range order[t.name()] {
			r := last[t.name()][id]
			if err := t.load(id, s.moved(r.Object, h.Base), s.moved(r.Hidden, h.Base)); err != nil {
				return fmt.Errorf("%w: %w", errDamaged, err)
			}
		}
		delete(last, t.name())
	}
	if len(last) > 0 {
		return fmt.Errorf("%w: unknown tables", errDamaged)
	}
	return nil
}

// readStep unwraps a line and checks it against the sum of those before it.
func readStep(line []byte, sum *uint32) ([]record, error) {
	n := len(fmt.Sprintf(stateLine, 0))
	if len(line) <= n {
		return nil, errDamaged
	}
	step := line[n : len(line)-1]
	*sum = crc32.Update(*sum, crc32.IEEETable, step)
	var records []record
	if string(line[:n]) != fmt.Sprintf(stateLine, *sum) || line[len(line)-1] != stateLineEnd[0] || json.Unmarshal(step, &records) != nil {
		return nil, errDamaged
	}
	return records, nil
}

// follow takes a record into account: only the last word about an object counts.
func (r record) follow(last map[string]map[string]record, order map[string][]string) {
	table := r.Put + r.Drop
	if last[table] == nil {
		last[table] = map[string]record{}
	}
	_, known := last[table][r.ID]
	switch {
	case r.Drop != "":
		delete(last[table], r.ID)
		order[table] = slices.DeleteFunc(order[table], func(id string) bool { return id == r.ID })
	case !known:
		order[table] = append(order[table], r.ID)
		fallthrough
	default:
		last[table][r.ID] = r
	}
}

// moved lets the addresses of hosted pages follow the sandbox to where it listens now.
func (s *Server) moved(raw json.RawMessage, from string) json.RawMessage {
	if from == "" || s.baseURL == "" || from == s.baseURL {
		return raw
	}
	for _, page := range []string{"/c/pay/", "/3ds/"} {
		raw = bytes.ReplaceAll(raw, []byte(from+page), []byte(s.baseURL+page))
	}
	return raw
}

// plan puts what was loaded back into the queues, which the file does not hold.
func (s *Server) plan() {
	for _, id := range s.tasks.order {
		t := s.tasks.peek(id)
		t.seq = s.numbered(id)
		heap.Push(&s.planned, t)
	}
	for _, id := range s.deliveries.order {
		d := s.deliveries.peek(id)
		d.seq = s.numbered(id)
		if ep := s.endpoints.peek(d.endpoint); ep != nil && s.events.peek(d.event) != nil {
			ep.queue = append(ep.queue, d)
		}
	}
}

// numbered reads an id that next made, so that the next one is higher.
func (s *Server) numbered(id string) int64 {
	n, _ := strconv.ParseInt(id, 10, 64) // what is no number sorts first
	s.seq = max(s.seq, n)
	return n
}

// rewrite writes the tables into a file of their own, puts it in the place of the old one and goes on with it. A crash
// before the rename leaves the old file as it was.
func (s *Server) rewrite(path string) error {
	f, err := os.OpenFile(path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err //nolint:wrapcheck // New says what it is about
	}
	s.state = &stateFile{f: f, seed: maphash.MakeSeed()}
	err = s.writeAll()
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	for _, t := range s.stores() {
		t.keepIn(&s.state.touch)
	}
	return nil
}

func (s *Server) writeAll() error {
	if err := lockFile(s.state.f); err != nil {
		return err
	}
	head := snapshot(stateHeader{Format: stateFormat, Version: stateVersion, Base: s.baseURL})
	s.state.sum = crc32.ChecksumIEEE(head)
	out := append(head, '\n')
	for _, t := range s.stores() {
		for _, id := range t.ids() {
			out = s.state.appendStep(out, []touchedRow{{in: t, id: id}})
			if len(out) > 1<<20 {
				if _, err := s.state.f.Write(out); err != nil {
					return err //nolint:wrapcheck // New says what it is about
				}
				out = out[:0]
			}
		}
	}
	_, err := s.state.f.Write(out)
	return errors.Join(err, s.state.f.Sync())
}

// appendStep renders what the file does not hold yet of the touched rows as one line, or as nothing.
func (k *stateFile) appendStep(b []byte, touched []touchedRow) []byte {
	start := len(b)
	b = fmt.Appendf(b, stateLine, 0)
	step := len(b)
	for _, r := range touched {
		b = append(b, ',')
		n := len(b)
		if b = r.in.appendRecord(b, r.id, k.seed); len(b) == n {
			b = b[:n-1]
		}
	}
	if len(b) == step {
		return b[:start]
	}
	b[step] = '['
	b = append(b, ']')
	k.sum = crc32.Update(k.sum, crc32.IEEETable, b[step:])
	copy(b[start:], fmt.Sprintf(stateLine, k.sum))
	return append(b, stateLineEnd...)
}

// save writes what the step changed. It answers whether the file holds everything; after a failure it never does again.
// A crash in the middle of the write, or right after it, leaves a change that nobody was told of: not kept, or kept.
func (k *stateFile) save() bool {
	if k.failed.Load() != nil {
		return false
	}
	if len(k.touch.rows) == 0 {
		return true
	}
	k.line = k.appendStep(k.line[:0], k.touch.rows)
	clear(k.touch.rows)
	k.touch.rows = k.touch.rows[:0]
	if len(k.line) == 0 {
		return true
	}
	if _, err := k.f.Write(k.line); err != nil {
		k.failed.Store(&err)
		return false
	}
	return true
}

// failure is why the state is not kept any more, or nil.
func (k *stateFile) failure() error {
	if err := k.failed.Load(); err != nil && !errors.Is(*err, os.ErrClosed) {
		return *err
	}
	return nil
}

// requests counts those in hand, and closes the file after the last one when the sandbox is closed.
func (k *stateFile) requests(more int, closed func() bool) {
	k.counting.Lock()
	defer k.counting.Unlock()
	k.inHand += more
	if k.inHand == 0 && closed() {
		_ = k.f.Close() // nothing is buffered; a second time is fine
	}
}

// keptAnswer sends no answer that the state file knows nothing of: the caller sees a broken connection, as it would if the
// sandbox had ended before it did anything.
type keptAnswer struct {
	http.ResponseWriter
	state *stateFile
}

// Unwrap is for http.ResponseController.
func (k *keptAnswer) Unwrap() http.ResponseWriter { return k.ResponseWriter }

// WriteHeader sends the status.
func (k *keptAnswer) WriteHeader(status int) {
	k.check()
	k.ResponseWriter.WriteHeader(status)
}

// Write sends a part of the body.
func (k *keptAnswer) Write(b []byte) (int, error) {
	k.check()
	return k.ResponseWriter.Write(b) //nolint:wrapcheck // the caller's own writer
}

func (k *keptAnswer) check() {
	if k.state.failed.Load() != nil {
		panic(http.ErrAbortHandler)
	}
}
