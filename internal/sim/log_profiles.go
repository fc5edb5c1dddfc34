package sim

import (
	"context"
	"slices"

	"github.com/paykit-go/paykit/internal/events/eventlog"
)

// Profile reads a customer's newest profile.
func (l *Log) Profile(ctx context.Context, customerID string) (r eventlog.Revision, err error) {
	err = l.read(ctx, func() error {
		for i, p := range slices.Backward(l.s.profiles) {
			if p.customer == customerID && !p.gone {
				r = eventlog.Revision{Profile: p.what, Sequence: uint64(i + 1), Time: p.at} //nolint:gosec // G115: counts up
				return nil
			}
		}
		return eventlog.ErrNotFound
	})
	return r, err
}

// ProfileAt reads one revision.
func (l *Log) ProfileAt(ctx context.Context, sequence uint64) (r eventlog.Revision, err error) {
	err = l.read(ctx, func() error {
		if sequence < 1 || sequence > uint64(len(l.s.profiles)) || l.s.profiles[sequence-1].gone {
			return eventlog.ErrNotFound
		}
		r = eventlog.Revision{Profile: l.s.profiles[sequence-1].what, Sequence: sequence}
		return nil
	})
	return r, err
}

// PutProfile stores a revision if the newest is still the one at last.
func (l *Log) PutProfile(ctx context.Context, customerID string, p eventlog.Profile, last uint64) (sequence uint64, err error) {
	err = l.write(ctx, func() error {
		newest := uint64(0)
		for i, one := range l.s.profiles {
			if one.customer == customerID && !one.gone {
				newest = uint64(i + 1)
			}
		}
		if newest != last {
			return eventlog.ErrConflict
		}
		l.s.profiles = append(l.s.profiles, profile{customer: customerID, what: p, at: l.s.now()})
		sequence = uint64(len(l.s.profiles))
		return nil
	})
	return sequence, err
}

// EraseProfiles overwrites the older revisions.
func (l *Log) EraseProfiles(ctx context.Context, customerID string, before uint64) (n int, err error) {
	err = l.read(ctx, func() error {
		for i := range l.s.profiles {
			p := &l.s.profiles[i]
			if p.customer == customerID && !p.gone && uint64(i+1) < before {
				*p = profile{customer: customerID, gone: true}
				n++
			}
		}
		return nil
	})
	return n, err
}
