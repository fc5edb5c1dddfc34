package projections

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"

	"go.etcd.io/bbolt"
)

// What bbolt's pages look like (version 2 of its format, which it has had since 2014): a header of 16 bytes, then elements of
// 16 bytes each. Source: https://github.com/etcd-io/bbolt/blob/v1.5.0/internal/common/page.go
const (
	pageHeader    = 16 // id (8), flags (2), count (2), overflow (4): how many pages more belong to it
	pageElement   = 16 // of a branch: position (4), key size (4), page (8); of a leaf: flags (4), position (4), key and value size
	pageBranch    = 1
	pageLeaf      = 2
	elementBucket = 1 // a leaf's flag: the value is a bucket, which begins with its root page, 0 = within the value
)

// pages tells which pages of a file are in use.
type pages struct {
	tx   *bbolt.Tx
	file *os.File
	size int
	used []bool
}

// checkPages looks whether each page is in use once or free, and not both: a page that is wrongly listed as free would be
// written over later, and one whose length is wrong would take others with it when it is freed. bbolt's own check reads what
// it finds without limits, so that a flipped bit can make it take all memory. With treeOnly it does not look at
// the free ones: else no write transaction may run.
func checkPages(tx *bbolt.Tx, treeOnly bool) error {
	file, err := os.Open(tx.DB().Path())
	if err != nil {
		return fmt.Errorf("check the pages: %w", err)
	}
	defer file.Close()
	size := tx.DB().Info().PageSize
	p := &pages{tx: tx, file: file, size: size, used: make([]bool, tx.Size()/int64(size))}
	if err := p.walk(uint64(tx.Cursor().Bucket().Root()), nil, nil); err != nil || treeOnly {
		return err
	}
	listed := false
	for id := 2; id < len(p.used); id++ { // the first two are the meta pages, which have checksums
		info, err := tx.Page(id)
		switch {
		case err != nil || info == nil:
			return fmt.Errorf("%w: page %d: %w", errDamaged, id, err)
		case p.used[id] && info.Type == "free":
			return fmt.Errorf("%w: page %d is in use and free", errDamaged, id)
		case p.used[id] || info.Type == "free":
		case info.Type == "freelist" && !listed: // there is one; another is an old one, which should be free
			listed = true
			id += info.OverflowCount
		default:
			return fmt.Errorf("%w: page %d is neither in use nor free", errDamaged, id)
		}
	}
	return nil
}

// walk marks a page and all that it leads to. Its keys must stand in order before the bound, and the first must be the one that
// its branch has for it (nil = none): bbolt searches by the branches' keys, which are in no bucket's sum, and finds a page's place
// in its branch by it when the page is written again.
func (p *pages) walk(id uint64, first, bound []byte) error {
	b, err := p.read(id)
	if err != nil {
		return err
	}
	flags, count := binary.NativeEndian.Uint16(b[8:]), int(binary.NativeEndian.Uint16(b[10:]))
	if flags != pageBranch && flags != pageLeaf || pageHeader+count*pageElement > len(b) {
		return fmt.Errorf("%w: page %d is of no known kind", errDamaged, id)
	}
	list := make([]element, count+1)
	list[count].key = bound
	for i := range count {
		if list[i], err = readElement(b, pageHeader+i*pageElement, flags == pageBranch); err != nil {
			return fmt.Errorf("%w: page %d, element %d", err, id, i)
		}
	}
	if first != nil && !bytes.Equal(list[0].key, first) {
		return fmt.Errorf("%w: page %d begins with another key than its branch says", errDamaged, id)
	}
	for i, e := range list[:count] {
		next := list[i+1].key
		if next != nil && bytes.Compare(e.key, next) >= 0 {
			return fmt.Errorf("%w: page %d: key %d stands in a wrong place", errDamaged, id, i)
		}
		switch {
		case flags == pageBranch:
			err = p.walk(e.page, e.key, next)
		case e.page != 0:
			err = p.walk(e.page, nil, nil) // a bucket
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// element is a branch's or a leaf's. page is what it leads to, 0 = it is an entry.
type element struct {
	key  []byte
	page uint64
}

func readElement(b []byte, at int, branch bool) (element, error) {
	number := func(i int) int { return int(binary.NativeEndian.Uint32(b[at+4*i:])) }
	position, size := number(1), number(2)
	if branch {
		position, size = number(0), number(1)
	}
	from := at + position
	if from+size > len(b) {
		return element{}, fmt.Errorf("%w: it ends outside", errDamaged)
	}
	e := element{key: b[from : from+size : from+size]}
	switch {
	case branch:
		e.page = binary.NativeEndian.Uint64(b[at+8:])
	case number(0)&elementBucket != 0:
		if from+size+8 > len(b) {
			return element{}, fmt.Errorf("%w: it ends outside", errDamaged)
		}
		e.page = binary.NativeEndian.Uint64(b[from+size:])
	}
	return e, nil
}

// read reads a page with those that belong to it, and marks them. A page that was marked before is an error, so that no
// circle is walked.
func (p *pages) read(id uint64) ([]byte, error) {
	if id < 2 || id >= uint64(len(p.used)) {
		return nil, fmt.Errorf("%w: there is no page %d", errDamaged, id)
	}
	b := make([]byte, p.size)
	offset := int64(id) * int64(p.size) //nolint:gosec // G115: within the file
	if _, err := p.file.ReadAt(b, offset); err != nil {
		return nil, fmt.Errorf("read page %d: %w", id, err)
	}
	more := uint64(binary.NativeEndian.Uint32(b[12:]))
	if binary.NativeEndian.Uint64(b) != id || more >= uint64(len(p.used))-id {
		return nil, fmt.Errorf("%w: page %d is not what it says", errDamaged, id)
	}
	for i := id; i <= id+more; i++ {
		if p.used[i] {
			return nil, fmt.Errorf("%w: page %d is in use twice", errDamaged, i)
		}
		p.used[i] = true
	}
	if more > 0 {
		b = make([]byte, (int(more)+1)*p.size) //nolint:gosec // G115: within the file
		if _, err := p.file.ReadAt(b, offset); err != nil {
			return nil, fmt.Errorf("read page %d: %w", id, err)
		}
	}
	return b, nil
}
