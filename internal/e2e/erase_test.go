package e2e_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/events/eventlogtest"
)

// signed makes the header that proves a delivery to be the provider's.
func signed(body, secret string) string {
	at := strconv.FormatInt(time.Now().Unix(), 10)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(at + "." + body))
	return "t=" + at + ",v1=" + hex.EncodeToString(mac.Sum(nil))
}

// canaries are texts of one person that nobody else has. Each has letters that JSON may write in another way.
func canaries() (list []string) {
	for _, what := range []string{"old", "new", "meta", "done", "refused", "dead", "before", "after", "batch"} {
		list = append(list, canary+"-"+what)
	}
	return list
}

// canary begins all of them.
const canary = "kanarie-x7q"

// forms are the ways in which a text could stand in a file: as it is, and in base64 at each of its three alignments.
func forms(text string) [][]byte {
	list := [][]byte{[]byte(text)}
	for shift := range 3 {
		coded := base64.RawStdEncoding.EncodeToString(append(make([]byte, shift), text...))
		// The first and last characters depend on the neighbours.
		list = append(list, []byte(coded[(shift*8+5)/6:len(coded)-2]))
	}
	return list
}

// findings looks for texts in all files below the folders.
func findings(t *testing.T, texts []string, folders ...string) (list []string) {
	t.Helper()
	for _, folder := range folders {
		err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
			if os.IsNotExist(err) { // a file of a server that works
				return nil
			}
			if err != nil || d.IsDir() {
				return err
			}
			b, err := os.ReadFile(path) //nolint:gosec // G122: a test's own folder
			if err != nil && !os.IsNotExist(err) {
				return err
			}
			for _, text := range texts {
				for i, form := range forms(text) {
					if bytes.Contains(b, form) {
						list = append(list, fmt.Sprintf("%s (form %d) in %s", text, i, path))
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return list
}

// erasureReport is what `paykit customer delete --wait -o json` prints.
type erasureReport struct {
	Done bool           `json:"done"`
	Left map[string]any `json:"left"`
	Stay []struct {
		Where string `json:"where"`
	} `json:"stays"`
}

func (s *system) erase(customerID, timeout string) (status int, report erasureReport, said string) {
	s.t.Helper()
	p := start(s.t, s.env(), "paykit", "customer", "delete", customerID, "--wait", "--timeout", timeout, "-o", "json")
	status = p.status(3 * time.Minute)
	if err := json.NewDecoder(bytes.NewReader([]byte(p.out.String()))).Decode(&report); err != nil {
		s.t.Fatalf("customer delete: status %d, %v: %s", status, err, p.out)
	}
	return status, report, p.out.String()
}

// delivered has the webhook door take a delivery that the test made up.
func (s *system) delivered(id, typ, object string) {
	s.t.Helper()
	body := fmt.Sprintf(`{"id":%q,"object":"event","type":%q,"created":%d,"livemode":false,"api_version":"2023-10-16","data":{"object":%s}}`,
		id, typ, time.Now().Unix(), object)
	eventually(s.t, "the door takes "+id, func() bool {
		status, _ := post(s.t, s.ingest+"/webhooks/stripe", body, "Stripe-Signature", signed(body, webhookSecret))
		return status == 200
	})
}

// person is somebody with data in every place that there is.
type person struct {
	customerID, account, chargeID, payment string
}

// leaveTraces makes a person whose data, canaries all of them, are or were in every stream.
func (s *system) leaveTraces(pk *paykit.Client, nc *nats.Conn, prefix string) person {
	s.t.Helper()
	ctx := s.t.Context()
	reference := "user_" + prefix
	var p person
	for _, what := range []string{"old", "new"} {
		c, err := pk.Customer.Sync(ctx, paykit.CustomerSync{
			ReferenceID: reference, Email: prefix + "-" + what + "@example.com", Name: "Zoë <" + prefix + "-" + what + "> & Söhne",
			Metadata: map[string]string{"nick": prefix + "-meta " + what},
		})
		if err != nil {
			s.t.Fatal(err)
		}
		p.customerID = c.ID
	}
	_, methodID := s.savedFor(pk, p.customerID, card4242)
	c, err := pk.Charge.Create(ctx, paykit.ChargeCreate{CustomerID: p.customerID, PaymentMethodID: methodID, Amount: 1900, Description: "March usage"}, paykit.WithWait(20*time.Second))
	if err != nil || c.Status != paykit.ChargeSucceeded {
		s.t.Fatalf("charge: %+v, %v", c, err)
	}
	p.chargeID, p.payment = c.ID, c.ProviderPaymentID
	eventually(s.t, "the account is linked", func() bool {
		got, err := pk.Customer.Get(ctx, p.customerID)
		if err == nil && len(got.ProviderAccounts) > 0 {
			p.account = got.ProviderAccounts[0].ProviderCustomerID
		}
		return p.account != ""
	})

	// Commands that wait, that are done and that are refused; one that was set aside.
	s.in.kill()
	queued := func(body string) {
		if _, err := nc.Request("paykit.cmd.customer.sync", []byte(body), 5*time.Second); err != nil {
			s.t.Fatal(err)
		}
	}
	queued(fmt.Sprintf(`{"referenceId":%q,"email":"%s-done@example.com"}`, reference, prefix))
	queued(fmt.Sprintf(`{"referenceId":%q,"email":"%s-refused@example.com","unknown":1}`, reference, prefix))
	if found := findings(s.t, []string{prefix + "-done", prefix + "-refused"}, s.folders...); len(found) < 2 {
		s.t.Fatalf("queued commands are not in the files looked at: %v", found)
	}
	s.startIngest()
	s.in.awaitHTTP(s.ingest + "/readyz")
	log := s.eventLog(nc)
	err = log.Bury(ctx, eventlog.DeadLetter{
		Stage: eventlog.StageCommands, ID: "cmd_" + prefix, CustomerID: p.customerID, Stream: "PAYKIT_COMMANDS", Sequence: 1,
		Subject: "paykit.cmd.customer.sync", Body: []byte(`{"email":"` + prefix + `-dead@example.com"}`), Reason: "planted",
	})
	if err != nil {
		s.t.Fatal(err)
	}
	// Deliveries, many at once, so that some share a batch, which the server keeps in files of its own for a moment.
	s.receive(p, prefix, "before")
	var bodies []string
	for i := range 60 {
		bodies = append(bodies, fmt.Sprintf(`{"id":"evt_%s_batch_%d","object":"event","type":"customer.updated","created":%d,"livemode":false,"data":{"object":{"id":%q,"object":"customer","email":"%s-batch@example.com"}}}`,
			prefix, i, time.Now().Unix(), p.account, prefix))
	}
	s.atOnce(bodies)
	return p
}

// atOnce posts deliveries at the same time.
func (s *system) atOnce(bodies []string) {
	s.t.Helper()
	done := make(chan int, len(bodies))
	for _, body := range bodies {
		go func() {
			status, _ := post(s.t, s.ingest+"/webhooks/stripe", body, "Stripe-Signature", signed(body, webhookSecret))
			done <- status
		}()
	}
	for range bodies {
		if status := <-done; status != 200 {
			s.t.Errorf("a delivery got %d", status)
		}
	}
}

// receive has deliveries of several kinds come in that name the person.
func (s *system) receive(p person, prefix, when string) {
	s.t.Helper()
	canary := prefix + "-" + when
	id := func(n int) string { return fmt.Sprintf("evt_%s_%s_%d", prefix, when, n) }
	owner := fmt.Sprintf(`"metadata":{"paykit_env":%q,"paykit_customer":%q,"paykit_charge":%q}`, s.environment(), p.customerID, p.chargeID)
	s.delivered(id(1), "customer.updated", fmt.Sprintf(`{"id":%q,"object":"customer","email":"%s@example.com","name":"Zo\u00eb %s"}`, p.account, canary, canary))
	s.delivered(id(2), "charge.succeeded", fmt.Sprintf(`{"id":"ch_late","object":"charge","amount":1900,"currency":"usd","status":"succeeded","captured":true,"paid":true,"customer":%q,"payment_intent":%q,"receipt_email":"%s@example.com","billing_details":{"email":"%s@example.com","name":%q},%s}`,
		p.account, p.payment, canary, canary, canary, owner))
	s.delivered(id(3), "invoice.created", fmt.Sprintf(`{"id":"in_1","object":"invoice","customer":%q,"customer_email":"%s@example.com"}`, p.account, canary))
	s.delivered(id(4), "checkout.session.expired", fmt.Sprintf(`{"id":"cs_test_late","object":"checkout.session","mode":"payment","status":"expired","customer":null,"customer_details":{"email":"%s@example.com","name":%q},%s}`,
		canary, canary, owner))
	s.delivered(id(5), "payment_intent.succeeded", fmt.Sprintf(`{"id":%q,"object":"payment_intent","amount":1900,"amount_received":1900,"currency":"usd","status":"succeeded","customer":null,"receipt_email":"%s@example.com",%s}`,
		p.payment, canary, owner))
}

// environment is the installation's name at the provider.
func (s *system) environment() string { return s.eventLog(s.conn()).Env() }

func (s *system) conn() *nats.Conn {
	s.t.Helper()
	nc, err := nats.Connect(s.natsURL, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(nc.Close)
	return nc
}

func (s *system) eventLog(nc *nats.Conn) *eventlog.Log {
	s.t.Helper()
	log, err := eventlog.Open(s.t.Context(), nc, eventlog.Config{Logger: zerolog.Nop()})
	if err != nil {
		s.t.Fatal(err)
	}
	return log
}

// inboxLeft counts the deliveries whose subject holds a text.
func (s *system) inboxLeft(nc *nats.Conn, text string) int {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second)
	defer cancel()
	msg, err := nc.RequestWithContext(ctx, "$JS.API.STREAM.INFO.PAYKIT_INBOX", []byte(`{"subjects_filter":">"}`))
	if err != nil {
		return -1
	}
	return bytes.Count(msg.Data, []byte(text))
}

// nothingSaid wants the canaries in no process's output and no metric.
func (s *system) nothingSaid(texts []string) {
	s.t.Helper()
	said := map[string]string{}
	for _, p := range []*process{s.in, s.wk, s.pr, s.nats} {
		if p != nil {
			said[p.name] = p.out.String()
		}
	}
	for _, url := range []string{s.ingest, s.worker, s.views} {
		_, said[url] = get(s.t, url+"/metrics")
	}
	for where, text := range said {
		if len(text) == 0 && where != "nats-server" {
			s.t.Errorf("%s said nothing at all", where)
		}
		for _, canary := range texts {
			if bytes.Contains([]byte(text), []byte(canary)) {
				s.t.Errorf("%s says %s", where, canary)
			}
		}
	}
}

// gone deletes a person with all its traces and looks for them everywhere. settle is called before the last look.
func (s *system) gone(settle func()) {
	s.t.Helper()
	pk, nc := s.client(), s.conn()
	const prefix, control = canary, "stays-x7q"
	if _, err := pk.Customer.Sync(s.t.Context(), paykit.CustomerSync{ReferenceID: "user_stays", Email: control + "@example.com"}); err != nil {
		s.t.Fatal(err)
	}
	p := s.leaveTraces(pk, nc, prefix)
	for _, canary := range canaries()[3:] {
		if what := canary[len(prefix)+1:]; what != "after" && what != "done" && what != "refused" && len(findings(s.t, []string{canary}, s.folders...)) == 0 {
			s.t.Errorf("%s is nowhere before: the test looks at the wrong files", canary)
		}
	}
	// Without a worker it can't end, and says what is left.
	s.wk.kill()
	status, report, said := s.erase(p.customerID, "1s")
	if status != 1 || report.Done || report.Left["workerConfirmation"] != true || report.Left["profileRevisions"] == 0.0 ||
		report.Left["deliveries"] == 0.0 || !strings.Contains(said, "not all is erased after 1s: ") {
		s.t.Errorf("without a worker: status %d: %s", status, said)
	}
	s.startWorker()
	status, report, said = s.erase(p.customerID, "2m")
	if status != 0 || !report.Done {
		s.t.Errorf("customer delete --wait: status %d: %s", status, said)
	}
	var stays []string
	for _, stay := range report.Stay {
		stays = append(stays, stay.Where)
	}
	for _, where := range []string{"stripe", "backups", "log"} {
		if !slices.Contains(stays, where) {
			s.t.Errorf("it does not say that something stays in %s: %v", where, stays)
		}
	}
	// What comes later.
	s.receive(p, prefix, "after")
	eventually(s.t, "later deliveries are erased", func() bool {
		return s.inboxLeft(nc, "evt_"+prefix) == 0
	})
	if o := s.object("customers/" + p.account); !o.Deleted {
		s.t.Errorf("the provider's customer is %+v", o)
	}
	settle()
	for _, found := range findings(s.t, canaries(), s.folders...) {
		s.t.Errorf("left: %s", found)
	}
	if len(findings(s.t, []string{control}, s.folders...)) == 0 {
		s.t.Error("the other customer's e-mail is nowhere: the test looks at the wrong files")
	}
	s.nothingSaid(append(canaries(), control))
	s.verify()
	if a, b := s.rebuild(), s.rebuild(); a.Digest != b.Digest || a.Rows["customers"] == 0 {
		s.t.Errorf("rebuilt %+v and %+v", a, b)
	}
}

// A deleted person is in no file of the store or of the projector, whatever form the data had and wherever they were.
func TestErased(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	s.gone(func() {})
}

// On three servers the replicas' Raft logs hold what was written until they are compacted, which a restart of each does.
func TestErasedOnThreeServers(t *testing.T) {
	t.Parallel()
	c := eventlogtest.StartCluster(t)
	s := newSystemOn(t, c)
	s.gone(func() {
		// What a server was given while it handed over can keep it from dropping the block before, until the next time.
		for range 4 {
			c.Roll(t)
			eventually(t, "all of it has leaders again", func() bool {
				_, err := eventlog.Open(t.Context(), s.conn(), eventlog.Config{Logger: zerolog.Nop()})
				return err == nil
			})
			left := findings(t, canaries(), s.folders...)
			if len(left) == 0 {
				return
			}
			for _, found := range left { // anywhere else it would be for good
				if !strings.Contains(found, "_js_") {
					t.Fatalf("left: %s", found)
				}
			}
			t.Logf("another round for %s", left[0])
		}
	})
}
