package commands

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"unicode/utf8"

	"github.com/paykit-go/paykit/internal/crashpoint"
	"github.com/paykit-go/paykit/internal/events"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/plant"
)

// customerSync is the command customer.sync: make the customer known, or bring the profile up to date.
type customerSync struct {
	referenceID string
	patch       profilePatch
}

// profilePatch says what becomes of a profile. A field that was not sent keeps its value; one sent as null is removed;
// metadata replaces the whole map.
type profilePatch struct {
	email, name  *string
	metadata     map[string]string
	emailSent    bool
	nameSent     bool
	metadataSent bool
}

// profileEmail is an address as the provider takes it: something, "@", a host with a dot.
var profileEmail = regexp.MustCompile(`^[^\s\pZ\pC@]+@[^\s\pZ\pC@]+\.[^\s\pZ\pC@.]+$`)

// A profile is what PayKit may know of a person and can erase, so nothing of it is tested for personal data.
func parseCustomerSync(f *fields, _ Config) command {
	c := customerSync{referenceID: f.text("referenceId")}
	if refusal := checkReference("referenceId", c.referenceID); refusal != nil {
		f.refuse(refusal)
	}
	email, given := f.optionalText("email")
	if given {
		c.patch.email = &email
		switch {
		case utf8.RuneCountInString(email) > maxEmail:
			f.refuse(invalid("email", "must be at most %d characters long", maxEmail))
		case !profileEmail.MatchString(email):
			f.refuse(invalid("email", "must be an e-mail address; null removes it"))
		}
	}
	name, given := f.optionalText("name")
	if given {
		c.patch.name = &name
		switch {
		case name == "":
			f.refuse(invalid("name", "must not be empty; null removes it"))
		case utf8.RuneCountInString(name) > maxName:
			f.refuse(invalid("name", "must be at most %d characters long", maxName))
		}
	}
	c.patch.metadata = f.metadata("metadata")
	c.patch.emailSent = f.sent("email")
	c.patch.nameSent = f.sent("name")
	c.patch.metadataSent = f.sent("metadata")
	return c
}

func (c customerSync) plan(h *Handler, _ call) plan {
	id := events.CustomerID(c.referenceID)
	return plan{
		entity: events.EntityCustomer, id: id,
		decide: func(ctx context.Context, last *events.Event, cause events.Cause) (*events.Event, error) {
			if last != nil && last.CorrelationID == cause.CommandID {
				return nil, nil // repeated: no new revision either
			}
			// A crash after this leaves a revision that no event announces. The command's repetition finds it as the
			// newest and announces it; so does the next sync, which builds on it. Erasing the customer erases it too.
			in, err := h.reviseProfile(ctx, id, last, c.patch)
			if err != nil {
				return nil, err
			}
			in.ReferenceID = c.referenceID
			return events.DecideCustomer(last, in, cause)
		},
		// A crash between the event and this leaves older revisions. The repeated command erases them, the worker does on
		// customer.updated, and so does any later sync.
		stored: func(ctx context.Context, e eventlog.Entry) error { return h.eraseOlderProfiles(ctx, e) },
		answer: h.customerResult,
	}
}

// reviseProfile makes sure that the newest revision is what the patch leads to, and says how it differs from the
// revision last announced. Nothing is stored if it is so already.
func (h *Handler) reviseProfile(ctx context.Context, id string, last *events.Event, patch profilePatch,
) (events.SyncCustomer, error) {
	for {
		newest, err := h.newestProfile(ctx, id)
		if err != nil {
			return events.SyncCustomer{}, err
		}
		announced, err := h.announcedProfile(ctx, last, newest)
		if err != nil {
			return events.SyncCustomer{}, err
		}
		base, erased := newest.Profile, uint64(0)
		if last != nil && last.Data.Customer.Deleted() {
			// Nothing of the old profile comes back, and the deletion's revisions, that one included, are being erased.
			base, erased = eventlog.Profile{}, last.Data.Customer.ProfileRevision
		}
		want := patch.apply(base)
		changed := profileChanges(announced.Profile, want)
		if len(changed) == 0 {
			// A sync before us stored another revision and got no further. What we take back of it is a change too:
			// somebody may have read it, and the worker may have pushed it.
			changed = profileChanges(base, want)
		}
		if newest.Sequence > erased && len(profileChanges(newest.Profile, want)) == 0 {
			return events.SyncCustomer{Revision: newest.Sequence, Changed: changed}, nil
		}
		revision, err := h.log.PutProfile(ctx, id, want, newest.Sequence)
		if err == nil {
			crashpoint.Hit("commands.profile_stored")
			return events.SyncCustomer{Revision: revision, Changed: changed}, nil
		}
		// Somebody else was first, or the answer was lost: what is there now says.
		if _, unknown := errors.AsType[*eventlog.UnknownError](err); !unknown && !errors.Is(err, eventlog.ErrConflict) {
			return events.SyncCustomer{}, err
		}
		if ctx.Err() != nil {
			return events.SyncCustomer{}, err
		}
	}
}

// newestProfile is the customer's newest revision, the zero one if there is none.
func (h *Handler) newestProfile(ctx context.Context, id string) (eventlog.Revision, error) {
	r, err := h.log.Profile(ctx, id)
	if errors.Is(err, eventlog.ErrNotFound) {
		return eventlog.Revision{}, nil
	}
	return r, err
}

// announcedProfile is the revision that the customer's last event names: of one just beginning, or deleted, the zero
// one.
func (h *Handler) announcedProfile(ctx context.Context, last *events.Event, newest eventlog.Revision) (eventlog.Revision, error) {
	if last == nil {
		return eventlog.Revision{}, nil
	}
	c := last.Data.Customer
	if c.Deleted() {
		return eventlog.Revision{Sequence: c.ProfileRevision}, nil
	}
	if c.ProfileRevision == newest.Sequence {
		return newest, nil
	}
	r, err := h.log.ProfileAt(ctx, c.ProfileRevision)
	if errors.Is(err, eventlog.ErrNotFound) {
		// A newer one was announced and this one erased since last was read: the guard will be lost.
		return eventlog.Revision{Sequence: c.ProfileRevision}, nil
	}
	return r, err
}

// eraseOlderProfiles erases what the announced revision has replaced.
func (h *Handler) eraseOlderProfiles(ctx context.Context, e eventlog.Entry) error {
	c := e.Event.Data.Customer
	if _, err := h.log.EraseProfiles(ctx, c.ID, c.ProfileRevision); err != nil {
		return fmt.Errorf("erase what was replaced: %w", err)
	}
	return nil
}

// apply is the profile with the patch applied.
func (p profilePatch) apply(to eventlog.Profile) eventlog.Profile {
	if p.emailSent {
		to.Email = p.email
	}
	if p.nameSent {
		to.Name = p.name
	}
	if p.metadataSent {
		to.Metadata = p.metadata
	}
	if to.Metadata == nil {
		to.Metadata = map[string]string{}
	}
	return to
}

// profileChanges names the fields in which two profiles differ.
func profileChanges(a, b eventlog.Profile) []string {
	var changed []string
	if !sameText(a.Email, b.Email) {
		changed = append(changed, "email")
		if plant.Bug == 10 && b.Email != nil {
			changed = append(changed, *b.Email)
		}
	}
	if !sameText(a.Name, b.Name) {
		changed = append(changed, "name")
	}
	if !maps.Equal(a.Metadata, b.Metadata) {
		changed = append(changed, "metadata")
	}
	return changed
}

func sameText(a, b *string) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}
