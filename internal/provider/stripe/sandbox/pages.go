package sandbox

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/rs/zerolog"
)

//go:embed templates/*.html static/*
var pageFiles embed.FS

// maxFormBytes is far above what the forms send: a card and a name.
const maxFormBytes = 16 << 10

// pages serves what a buyer sees in the browser: checkout, setup, 3-D Secure, and the landing page. It holds no state
// of its own; every page is made from what the core says at that moment, so a reload is always right.
type pages struct {
	server    *Server
	log       zerolog.Logger
	now       func() time.Time // the sandbox's clock
	templates *template.Template
	assets    map[string]asset // by the name in the URL, which holds the content's hash
}

// asset is one static file.
type asset struct {
	contentType string
	content     []byte
}

// registerPages adds the hosted checkout, setup and 3-D Secure pages, their static files and the landing page to mux.
// Card data goes from the form to the core and nowhere else: no log line, no URL, no cookie.
func (s *Server) registerPages(mux *http.ServeMux) {
	p := &pages{server: s, log: s.cfg.Logger, now: s.pageTime, assets: map[string]asset{}}
	urls := p.loadAssets()
	p.templates = template.Must(template.New("pages").
		Funcs(template.FuncMap{"asset": func(name string) string { return urls[name] }}).
		ParseFS(pageFiles, "templates/*.html"))

	// A form may only be sent from our own pages; programs, which send no Origin, are let through.
	own := http.NewCrossOriginProtection()
	mux.Handle("GET /{$}", pageHeaders(p.home))
	mux.Handle("GET /static/{file}", http.HandlerFunc(p.static))
	mux.Handle("GET /c/pay/{session}", pageHeaders(p.showCheckout))
	mux.Handle("POST /c/pay/{session}", own.Handler(pageHeaders(p.submitCheckout)))
	mux.Handle("GET /3ds/{action}", pageHeaders(p.showAction))
	mux.Handle("POST /3ds/{action}", own.Handler(pageHeaders(p.submitAction)))
}

// loadAssets reads the static files and returns the URL of each by its plain name.
func (p *pages) loadAssets() map[string]string {
	entries, err := pageFiles.ReadDir("static")
	if err != nil {
		panic("sandbox: the static files are not embedded: " + err.Error())
	}
	urls := make(map[string]string, len(entries))
	for _, entry := range entries {
		content, err := pageFiles.ReadFile("static/" + entry.Name())
		if err != nil {
			panic("sandbox: the static files are not embedded: " + err.Error())
		}
		sum := sha256.Sum256(content)
		ext := path.Ext(entry.Name())
		hashed := strings.TrimSuffix(entry.Name(), ext) + "." + hex.EncodeToString(sum[:6]) + ext
		p.assets[hashed] = asset{contentType: contentType(ext), content: content}
		urls[entry.Name()] = "/static/" + hashed
	}
	return urls
}

// contentType knows the kinds of files that we ship; mime.TypeByExtension would depend on the machine's tables.
func contentType(ext string) string {
	switch ext {
	case ".css":
		return "text/css; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	default:
		return "application/octet-stream"
	}
}

// static serves a file whose name holds its hash, so it may be kept for ever.
func (p *pages) static(w http.ResponseWriter, r *http.Request) {
	file, ok := p.assets[r.PathValue("file")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", file.contentType)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(file.content))
}

// pageHeaders sets what every page carries. form-action is left open on purpose: browsers apply it to the redirect after
// the form as well, and that leads to the merchant's own site. Referrer-Policy is same-origin and not no-referrer,
// because with the latter browsers send "Origin: null" with our own forms, which the origin check would refuse.
func pageHeaders(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy",
			"default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Frame-Options", "DENY")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		next(w, r)
	})
}

// render answers with a page; it is built completely before the first byte leaves, so an error can still be said.
func (p *pages) render(w http.ResponseWriter, status int, name string, view any) {
	var page bytes.Buffer
	if err := p.templates.ExecuteTemplate(&page, name, view); err != nil {
		p.log.Error().Err(err).Str("page", name).Msg("page not rendered")
		http.Error(w, "The page could not be shown.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(page.Bytes()) // the buyer went away: nothing to do
}

// messageView is a page that says one thing.
type messageView struct {
	Title, Heading, Text, Detail string
	LinkURL, LinkText            string
	Mark                         string // done, late or lost
}

func (p *pages) notFound(w http.ResponseWriter) {
	p.render(w, http.StatusNotFound, "message", messageView{
		Title: "Page not found", Mark: "lost", Heading: "This page does not exist",
		Text:   "The link may be incomplete, or it belongs to a sandbox that was started again since: a sandbox forgets everything when it ends.",
		Detail: "Please go back to the shop and start again.",
	})
}

// badForm answers a body that is not a form, or is too large for one.
func (p *pages) badForm(w http.ResponseWriter) {
	p.render(w, http.StatusBadRequest, "message", messageView{
		Title: "Form not understood", Mark: "lost", Heading: "We could not read this form",
		Text: "Nothing was done. Please go back and try again.",
	})
}

// failed answers an error that is none of the buyer's.
func (p *pages) failed(w http.ResponseWriter, err error, what string) {
	p.log.Error().Err(err).Str("page", what).Msg("form not processed")
	p.render(w, http.StatusInternalServerError, "message", messageView{
		Title: "Something went wrong", Mark: "lost", Heading: "Something went wrong on our side",
		Text: "We could not finish this step. Please go back and try again; if it went through after all, you will not pay twice.",
	})
}

// redirect is the answer to every form that did its work. 303 makes the browser follow with GET.
func redirect(w http.ResponseWriter, r *http.Request, to string) {
	http.Redirect(w, r, to, http.StatusSeeOther)
}

// checkoutPath is the page of a session.
func checkoutPath(sessionID string) string { return "/c/pay/" + url.PathEscape(sessionID) }

// initial is the letter in the merchant's logo.
func initial(name string) string {
	for _, r := range name {
		return strings.ToUpper(string(r))
	}
	return "?"
}

// pageTime is the sandbox's clock, for pages, which do not hold the core's lock.
func (s *Server) pageTime() time.Time {
	s.enter()
	defer s.leave()
	return s.now()
}
