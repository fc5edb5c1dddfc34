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
// at the next start. When much of the journal is past, that start writes it anew with one line for each object. It is not
// synced: it outlives the process, not the machine's power, which is enough for a stand-in. Guarded by Server.mu, unless said.
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
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // G304: the operator's own file
	if err != nil {
		return err //nolint:wrapcheck // New says what it is about
	}
	s.state = &stateFile{f: f, seed: maphash.MakeSeed()}
	if err := s.takeOver(path); err != nil {
		return errors.Join(err, s.state.f.Close())
	}
	for _, t := range s.stores() {
		t.keepIn(&s.state.touch)
	}
	return nil
}

// takeOver loads the open file and makes it one to go on with.
func (s *Server) takeOver(path string) error {
	if err := lockFile(s.state.f); err != nil {
		return err
	}
	raw, err := io.ReadAll(s.state.f)
	if err != nil {
		return err //nolint:wrapcheck // New says what it is about
	}
	whole, worn, err := s.load(raw)
	if err != nil {
		// A crash after the rename leaves no state file: the next start makes one, without this warning.
		aside, moveErr := setAside(path, s.cfg.Now())
		if moveErr != nil {
			return moveErr
		}
		s.cfg.Logger.Warn().Err(err).Str("aside", aside).Msg("sandbox state put aside, starting empty")
		s.tables, worn = newTables(), true
	}
	s.plan()
	if worn {
		return s.rewrite(path)
	}
	if err := s.state.f.Truncate(whole); err != nil {
		return err //nolint:wrapcheck // New says what it is about
	}
	_, err = s.state.f.Seek(whole, io.SeekStart)
	return err //nolint:wrapcheck // New says what it is about
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

// load reads a state file into the tables, which are empty, and says how many bytes of it are whole steps, and whether it
// should be written anew: there is nothing yet, most of it is past, or its pages have moved.
func (s *Server) load(raw []byte) (whole int64, worn bool, err error) {
	if len(raw) == 0 {
		return 0, true, nil
	}
	head, rest, ended := bytes.Cut(raw, []byte("\n"))
	var h stateHeader
	if err := json.Unmarshal(head, &h); err != nil || !ended || h.Format != stateFormat || h.Version != stateVersion {
		return 0, false, fmt.Errorf("%w: header", errDamaged)
	}
	last := history{}
	s.state.sum = crc32.ChecksumIEEE(head)
	for n := 2; ; n++ {
		line, more, ended := bytes.Cut(rest, []byte("\n"))
		if !ended {
			break // the end, or a step that was cut off
		}
		step, err := readStep(line, &s.state.sum)
		if err != nil {
			return 0, false, fmt.Errorf("%w: line %d", err, n)
		}
		for _, r := range step {
			last.follow(r)
		}
		rest = more
	}
	present := 0
	for _, t := range s.stores() {
		was := last[t.name()]
		if was == nil {
			continue
		}
		for _, id := range was.order {
			r := was.rows[id]
			present += len(r.Object) + len(r.Hidden)
			if err := t.load(id, s.moved(r.Object, h.Base), s.moved(r.Hidden, h.Base)); err != nil {
				return 0, false, fmt.Errorf("%w: %w", errDamaged, err)
			}
		}
		delete(last, t.name())
	}
	if len(last) > 0 {
		return 0, false, fmt.Errorf("%w: unknown tables", errDamaged)
	}
	return int64(len(raw) - len(rest)), h.Base != s.baseURL || len(raw) > 2*present+maxPast, nil
}

// maxPast is how much of a state file may be past without being written anew, in bytes, beside as much as is present.
const maxPast = 64 << 10

// history is the last word of a state file about each object, by table.
type history map[string]*historyOf

type historyOf struct {
	rows  map[string]record
	order []string
}

// follow takes the next record into account.
func (h history) follow(r record) {
	table := r.Put + r.Drop
	of := h[table]
	if of == nil {
		of = &historyOf{rows: map[string]record{}}
		h[table] = of
	}
	if r.Drop != "" {
		delete(of.rows, r.ID)
		of.order = slices.DeleteFunc(of.order, func(id string) bool { return id == r.ID })
		return
	}
	if _, known := of.rows[r.ID]; !known {
		of.order = append(of.order, r.ID)
	}
	of.rows[r.ID] = r
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
	f, err := os.OpenFile(path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600) //nolint:gosec // G304: the operator's own file
	if err != nil {
		return err //nolint:wrapcheck // New says what it is about
	}
	old := s.state.f
	defer old.Close()
	s.state.f = f
	if err := s.writeAll(); err != nil {
		return err
	}
	return os.Rename(path+".new", path) //nolint:wrapcheck // New says what it is about
}

func (s *Server) writeAll() error {
	if err := lockFile(s.state.f); err != nil {
		return err
	}
	head := snapshot(stateHeader{Format: stateFormat, Version: stateVersion, Base: s.baseURL})
	s.state.sum = crc32.ChecksumIEEE(head)
	out := slices.Concat(head, []byte("\n"))
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
