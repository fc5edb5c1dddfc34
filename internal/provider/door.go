package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/paykit-go/paykit/internal/crashpoint"
	"github.com/paykit-go/paykit/internal/events/eventlog"
	"github.com/paykit-go/paykit/internal/plant"
)

// MaxDelivery is how large a delivery's body may be, in bytes.
const MaxDelivery = 1 << 20

// DoorConfig says how the webhook door behaves. The zero value is good.
type DoorConfig struct {
	Logger       zerolog.Logger
	Now          func() time.Time      // the clock that a delivery's age is checked against; nil = time.Now
	MaxBody      int64                 // bytes; 0 = MaxDelivery
	ReadTimeout  time.Duration         // how long a body may take to arrive; 0 = 10 s
	StoreTimeout time.Duration         // how long storing may take; 0 = 5 s
	RetryAfter   time.Duration         // what a provider is told when storing failed; 0 = 5 s
	Registerer   prometheus.Registerer // nil = no metrics
}

// door takes deliveries in. It understands no more of them than it needs to store them.
type door struct {
	log      DeliveryStore
	webhooks map[string]Webhooks
	cfg      DoorConfig
	refusals zerolog.Logger // of what anybody can send: a few a minute
	results  *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	last     map[string]*atomic.Int64 // Unix time in ns of the last good delivery, by provider; at first of the start
}

// listen registers for each provider how long its last good delivery is ago.
func (d *door) listen() {
	for id := range d.webhooks {
		last := &atomic.Int64{}
		last.Store(d.cfg.Now().UnixNano())
		d.last[id] = last
		registered[prometheus.Collector](d.cfg.Registerer, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name:        "paykit_webhook_silence_seconds",
			Help:        "Time since the last good delivery at this door, or since its start.",
			ConstLabels: prometheus.Labels{"provider": id},
		}, func() float64 { return d.cfg.Now().Sub(time.Unix(0, last.Load())).Seconds() }))
	}
}

// NewDoor makes the handler of POST /webhooks/{providerId}, for the providers by id. It answers 200 only after
// JetStream acknowledged that the delivery is stored, so what was answered 200 is never lost, and anything else is the
// provider's to send again:
//
//	200  stored, or stored before; the provider may forget it
//	400  the signature or its age is wrong, or the signed body is not a JSON object with id and type, or a thin event,
//	     which only names an object; nothing is stored
//	404  no such provider
//	405  not a POST
//	408  the body did not arrive in time
//	413  the body is too large
//	503  the storage is full or can't be reached; with Retry-After
//
// The body is {"stored":true}, {"stored":true,"duplicate":true} or {"error":{"code","message"}}. A type that means
// nothing to us is stored like any other.
func NewDoor(log DeliveryStore, webhooks map[string]Webhooks, cfg DoorConfig) http.Handler {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.MaxBody == 0 {
		cfg.MaxBody = MaxDelivery
	}
	if cfg.ReadTimeout == 0 {
		cfg.ReadTimeout = 10 * time.Second
	}
	if cfg.StoreTimeout == 0 {
		cfg.StoreTimeout = 5 * time.Second
	}
	if cfg.RetryAfter == 0 {
		cfg.RetryAfter = 5 * time.Second
	}
	d := &door{
		log: log, webhooks: webhooks, cfg: cfg, last: map[string]*atomic.Int64{},
		refusals: cfg.Logger.Sample(&zerolog.BurstSampler{Burst: 5, Period: time.Minute}),
		results: registered(cfg.Registerer, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "paykit_webhook_deliveries_total",
			Help: "Deliveries at the webhook door, by what became of them.",
		}, []string{"provider", "result"})),
		seconds: registered(cfg.Registerer, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "paykit_webhook_seconds",
			Help:    "Time from a delivery's first byte to its answer.",
			Buckets: []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10},
		}, []string{"provider"})),
	}
	d.listen()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /webhooks/{providerId}", d.serve)
	mux.HandleFunc("/webhooks/{providerId}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", http.MethodPost)
		d.answer(w, d.label(r.PathValue("providerId")), badMethod)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { d.answer(w, "unknown", badPath) })
	return mux
}

// verdict is what the door made of a request: the word for metrics and programs.
type verdict string

const (
	verdictStored    verdict = "stored"
	verdictDuplicate verdict = "duplicate"
	badSignature     verdict = "bad_signature"
	badBody          verdict = "malformed"
	badKind          verdict = "thin_event"
	badRead          verdict = "unreadable"
	badPath          verdict = "not_found"
	badProvider      verdict = "provider_not_found"
	badMethod        verdict = "method_not_allowed"
	tooSlow          verdict = "timeout"
	tooLarge         verdict = "too_large"
	storageFull      verdict = "storage_full"
	storageAway      verdict = "unavailable"
)

// answer is the status, and the sentence for people. It never quotes the request.
func (v verdict) answer() (status int, message string) {
	switch v {
	case verdictStored, verdictDuplicate:
		return http.StatusOK, ""
	case badSignature:
		return http.StatusBadRequest, "no configured secret fits the body and its signature, or it is too old or from the future"
	case badBody:
		return http.StatusBadRequest, "the body is not a JSON object with id and type"
	case badKind:
		return http.StatusBadRequest, "this is a thin event, which names an object and does not hold it; " +
			"have the endpoint send snapshot events (payload style \"snapshot\")"
	case badRead:
		return http.StatusBadRequest, "the body could not be read to its end"
	case badPath:
		return http.StatusNotFound, "there is nothing here; deliveries go to /webhooks/{providerId}"
	case badProvider:
		return http.StatusNotFound, "no such provider is configured"
	case badMethod:
		return http.StatusMethodNotAllowed, "deliveries are sent by POST"
	case tooSlow:
		return http.StatusRequestTimeout, "the body did not arrive in time"
	case tooLarge:
		return http.StatusRequestEntityTooLarge, "the body is too large"
	case storageFull, storageAway:
		return http.StatusServiceUnavailable, "the delivery could not be stored; send it again later"
	}
	return http.StatusInternalServerError, ""
}

func (d *door) serve(w http.ResponseWriter, r *http.Request) {
	begin := time.Now()
	id := r.PathValue("providerId")
	hooks, ok := d.webhooks[id]
	if !ok {
		d.answer(w, d.label(id), badProvider)
		return
	}
	v := d.take(w, r, id, hooks)
	if v == verdictStored || v == verdictDuplicate {
		d.last[id].Store(d.cfg.Now().UnixNano())
	}
	d.answer(w, id, v)
	crashpoint.Hit("ingest.delivery_answered")
	d.seconds.WithLabelValues(id).Observe(time.Since(begin).Seconds())
}

// take reads, checks and stores one delivery, in this order, so that nothing unsigned is ever parsed or kept.
func (d *door) take(w http.ResponseWriter, r *http.Request, providerID string, hooks Webhooks) verdict {
	body, refused := d.read(w, r)
	if refused != "" {
		return refused
	}
	crashpoint.Hit("ingest.body_read")
	delivery, err := hooks.Verify(body, r.Header, d.cfg.Now())
	if plant.Bug == 11 {
		delivery, err = hooks.Decode(body)
	}
	switch {
	case errors.Is(err, ErrNotAnEvent), err == nil && delivery.ID == "":
		d.refusals.Warn().Str("provider", providerID).Int("bytes", len(body)).Msg("delivery refused: not an event")
		return badBody
	case errors.Is(err, ErrThinEvent):
		// Refused, so that it shows at the provider: kept, it would look as if it had been understood.
		d.refusals.Warn().Str("provider", providerID).Str("event_id", delivery.ID).Str("delivery_type", delivery.Type).
			Msg("delivery refused: a thin event; the endpoint must send snapshot events")
		return badKind
	case err != nil:
		d.refusals.Warn().Str("provider", providerID).Err(err).Msg("delivery refused")
		return badSignature
	}
	crashpoint.Hit("ingest.verified")
	ctx, cancel := context.WithTimeout(r.Context(), d.cfg.StoreTimeout)
	defer cancel()
	isNew, err := StoreDelivery(ctx, d.log, providerID, delivery, body)
	switch {
	case errors.Is(err, eventlog.ErrTooLarge):
		d.cfg.Logger.Error().Str("provider", providerID).Str("event_id", delivery.ID).Int("bytes", len(body)).
			Msg("delivery refused: larger than the NATS server's max_payload, raise it to 2MB")
		return tooLarge
	case errors.Is(err, eventlog.ErrStorageFull):
		d.cfg.Logger.Error().Err(err).Str("provider", providerID).Str("event_id", delivery.ID).Msg("delivery not stored")
		return storageFull
	case err != nil && plant.Bug == 8:
		return verdictStored
	case err != nil:
		d.cfg.Logger.Error().Err(err).Str("provider", providerID).Str("event_id", delivery.ID).Msg("delivery not stored")
		return storageAway
	case !isNew:
		return verdictDuplicate
	}
	crashpoint.Hit("ingest.delivery_stored")
	// A crash right here leaves the delivery stored and the provider without an answer: it sends it again, and that is
	// a duplicate.
	return verdictStored
}

// StoreDelivery appends a delivery to INBOX, once: false says that it was there. The webhook door and the backfill use
// the same guard, so a delivery that comes both ways is stored once. Its errors are eventlog's: ErrStorageFull,
// ErrUnavailable, UnknownError, ErrTooLarge.
func StoreDelivery(ctx context.Context, log DeliveryStore, providerID string, d Delivery, body []byte) (bool, error) {
	header := map[string]string{}
	if d.APIVersion != "" {
		header[headerAPIVersion] = d.APIVersion
	}
	return log.StoreDelivery(ctx, eventlog.Delivery{
		ProviderID: providerID, EventID: d.ID, ProviderCustomerID: d.CustomerID, Body: body, Header: header,
	})
}

// headerAPIVersion tells an operator how a stored body is to be read; the signature is not kept, it has done its work.
const headerAPIVersion = "Paykit-Api-Version"

// read takes the body in, bounded in size and time.
func (d *door) read(w http.ResponseWriter, r *http.Request) ([]byte, verdict) {
	if r.ContentLength > d.cfg.MaxBody {
		w.Header().Set("Connection", "close") // the rest is not read
		return nil, tooLarge
	}
	control := http.NewResponseController(w)
	// Not every ResponseWriter has a deadline; then the server's own limits hold.
	deadline := control.SetReadDeadline(time.Now().Add(d.cfg.ReadTimeout)) == nil
	var buf bytes.Buffer
	if r.ContentLength > 0 {
		buf.Grow(int(min(r.ContentLength, 64<<10))) // what is announced is not what comes: no more than this on a promise
	}
	_, err := io.Copy(&buf, http.MaxBytesReader(w, r.Body, d.cfg.MaxBody))
	if deadline {
		_ = control.SetReadDeadline(time.Time{}) // or it would cut the connection while the delivery is being stored
	}
	if err == nil {
		return buf.Bytes(), ""
	}
	w.Header().Set("Connection", "close")
	_, large := errors.AsType[*http.MaxBytesError](err)
	switch {
	case large:
		return nil, tooLarge
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, tooSlow
	}
	return nil, badRead
}

// label is a provider's name in metrics: only configured ones, or anyone could make new series.
func (d *door) label(providerID string) string {
	if _, ok := d.webhooks[providerID]; ok {
		return providerID
	}
	return "unknown"
}

func (d *door) answer(w http.ResponseWriter, provider string, v verdict) {
	d.results.WithLabelValues(provider, string(v)).Inc()
	status, message := v.answer()
	type failure struct {
		Code    string `json:"code"`
		Message string `json:"message"`
	}
	body := struct {
		Stored    bool     `json:"stored,omitempty"`
		Duplicate bool     `json:"duplicate,omitempty"`
		Error     *failure `json:"error,omitempty"`
	}{Stored: status == http.StatusOK, Duplicate: v == verdictDuplicate}
	if status != http.StatusOK {
		body.Error = &failure{Code: string(v), Message: message}
	}
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", strconv.Itoa(int(max(d.cfg.RetryAfter/time.Second, 1))))
	}
	w.Header().Set("Content-Type", "application/json")
	text, err := json.Marshal(body)
	if err != nil {
		status = http.StatusInternalServerError // can't be: texts and truth values
	}
	w.WriteHeader(status)
	_, _ = w.Write(text) // the provider may be gone; it sends the delivery again
}
