//go:build browser

package sandbox_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browserTime bounds the whole walk, with a slow machine in mind.
const browserTime = 4 * time.Minute

// startBrowser runs one headless Chromium until the test ends.
func startBrowser(t *testing.T) context.Context {
	t.Helper()
	path := os.Getenv("CHROMIUM")
	if path == "" {
		path = "/usr/bin/chromium"
	}
	if info, err := os.Stat(path); err != nil || info.IsDir() {
		t.Fatalf("no browser at %s: run .ci/install-browser (or apt-get install chromium), or set CHROMIUM to one", path)
	}
	ctx, cancel := context.WithTimeout(t.Context(), browserTime)
	t.Cleanup(cancel)
	// Without a UserDataDir of ours, chromedp makes a new temporary one and removes it in the end.
	ctx, cancel = chromedp.NewExecAllocator(ctx,
		chromedp.ExecPath(path), chromedp.NoFirstRun, chromedp.NoDefaultBrowserCheck, chromedp.Headless, chromedp.DisableGPU, chromedp.NoSandbox,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.WSURLReadTimeout(time.Minute))
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	return ctx
}

// tab is one page of the browser.
type tab struct {
	t   *testing.T
	ctx context.Context //nolint:containedctx // chromedp's handle of a tab is a context

	mu       sync.Mutex
	troubles []string // what the page's script or its policy complained about
}

//nolint:revive // t comes first, as everywhere in tests
func openTab(t *testing.T, browser context.Context, width int64, script bool) *tab {
	t.Helper()
	page := &tab{t: t}
	ctx, cancel := chromedp.NewContext(browser, chromedp.WithListener(page.listen))
	t.Cleanup(cancel)
	page.ctx = ctx
	// The tab lives as long as the context of its first Do, so this one has no limit of its own.
	err := chromedp.Do(ctx, chromedp.EmulateViewport(width, 812), chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		if _, err := cdp.Call(ctx, target, log.Enable, cdp.Empty{}); err != nil {
			return err
		}
		_, err := cdp.Call(ctx, target, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !script})
		return err
	}))
	if err != nil {
		t.Fatalf("open a tab: %v", err)
	}
	t.Cleanup(func() {
		page.mu.Lock()
		defer page.mu.Unlock()
		if len(page.troubles) > 0 {
			t.Errorf("the browser complained: %s", strings.Join(page.troubles, "\n"))
		}
	})
	return page
}

// listen collects errors of scripts and of the content security policy. Statuses such as 402 are not among them.
func (p *tab) listen(event any) {
	trouble := ""
	switch event := event.(type) {
	case *runtime.EventExceptionThrown:
		trouble = event.ExceptionDetails.Text
	case *log.EventEntryAdded:
		if event.Entry.Source != log.EntrySourceNetwork && event.Entry.Level == log.EntryLevelError {
			trouble = event.Entry.Text
		}
	}
	if trouble != "" {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.troubles = append(p.troubles, trouble)
	}
}

// stepTime bounds the wait for one step, with a slow machine in mind.
const stepTime = 30 * time.Second

// run does steps; each waits for its element to appear, within stepTime.
func (p *tab) run(steps ...chromedp.Action[chromedp.Void]) {
	p.t.Helper()
	for i, step := range steps {
		if _, err := ask(p, step); err != nil {
			p.t.Fatalf("step %d of %d: %v", i+1, len(steps), err)
		}
	}
}

// ask does one step that has an answer.
func ask[T any](p *tab, step chromedp.Action[T]) (T, error) {
	ctx, cancel := context.WithTimeout(p.ctx, stepTime)
	defer cancel()
	answer, err := chromedp.Run(ctx, step)
	if err != nil {
		where, _ := chromedp.Run(p.ctx, chromedp.Location())
		text, _ := chromedp.Run(p.ctx, chromedp.Evaluate[string](`document.body ? document.body.innerText : ""`))
		err = fmt.Errorf("%w; the page %s says: %s", err, where, strings.Join(strings.Fields(text), " "))
	}
	return answer, err
}

func mustAsk[T any](p *tab, step chromedp.Action[T]) T {
	p.t.Helper()
	answer, err := ask(p, step)
	if err != nil {
		p.t.Fatal(err)
	}
	return answer
}

// fill types a card into the form, field by field, as a buyer does.
func (p *tab) fill(number string) {
	p.t.Helper()
	for _, field := range []struct {
		id   chromedp.CSS
		text string
	}{{"#cardNumber", number}, {"#cardExpiry", "12/39"}, {"#cardCvc", "123"}, {"#billingName", "Jenny Rosen"}} {
		p.run(chromedp.Clear(field.id), chromedp.SendKeys(field.id, field.text))
	}
}

func (p *tab) click(selector string) {
	p.t.Helper()
	p.run(chromedp.Click(chromedp.CSS(selector)))
}

func (p *tab) submit() { p.t.Helper(); p.click("#card-form button[type=submit]") }

// mustSee waits for an element and looks for phrase in its text.
func (p *tab) mustSee(selector, phrase string) {
	p.t.Helper()
	p.run(chromedp.WaitVisible(chromedp.CSS(selector)))
	if text := mustAsk(p, chromedp.Text(chromedp.CSS(selector))); !strings.Contains(text, phrase) {
		p.t.Errorf("%s says %q, want %q in it", selector, text, phrase)
	}
}

// mustFit fails when the page can be scrolled sideways.
func (p *tab) mustFit() {
	p.t.Helper()
	page := mustAsk(p, chromedp.Evaluate[int](`document.documentElement.scrollWidth`))
	if window := mustAsk(p, chromedp.Evaluate[int](`document.documentElement.clientWidth`)); page > window {
		p.t.Errorf("the page is %d px wide in a window of %d", page, window)
	}
}

// picture writes a screenshot of the whole page when PAYKIT_SCREENSHOTS names a folder.
func (p *tab) picture(name string) {
	p.t.Helper()
	dir := os.Getenv("PAYKIT_SCREENSHOTS")
	if dir == "" {
		return
	}
	png := mustAsk(p, chromedp.FullScreenshot(100))
	if err := os.MkdirAll(dir, 0o750); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// newShop is the merchant's site, on another origin than the pages, as in real life.
func newShop(t *testing.T) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	for path, text := range map[string]string{"/thanks": "Thank you", "/basket": "Your basket"} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = fmt.Fprintf(w, `<!doctype html><title>Shop</title><link rel="icon" href="data:,"><h1 id="shop">%s</h1>`, text)
		})
	}
	shop := httptest.NewServer(mux)
	t.Cleanup(shop.Close)
	return shop
}

func TestBrowser(t *testing.T) {
	browser := startBrowser(t)
	shop := newShop(t)
	for _, device := range []struct {
		name  string
		width int64
	}{{"desktop", 1280}, {"phone", 375}} {
		for _, script := range []bool{true, false} {
			name := device.name
			if !script {
				name += " without script"
			}
			t.Run(name, func(t *testing.T) {
				w := walk{
					b: newBuyer(t), browser: browser, width: device.width, script: script, name: strings.ReplaceAll(name, " ", "-"),
					back: []string{"success_url", shop.URL + "/thanks", "cancel_url", shop.URL + "/basket"},
				}
				t.Run("pay", w.pay)
				t.Run("decline", w.decline)
				t.Run("3-D Secure", w.secure)
				t.Run("save a card", w.save)
				t.Run("other pages", w.others)
			})
		}
	}
}

// walk is what a buyer does on one kind of device.
type walk struct {
	b       *buyer
	browser context.Context //nolint:containedctx // chromedp's handle of a browser is a context
	width   int64
	script  bool
	name    string   // of the screenshots
	back    []string // the shop's addresses, as changes of a session
}

func (w walk) open(t *testing.T, address string) *tab {
	t.Helper()
	page := openTab(t, w.browser, w.width, w.script)
	page.run(chromedp.Navigate(address))
	return page
}

func (w walk) pay(t *testing.T) {
	s := w.b.checkout(w.back...)
	page := w.open(t, s.URL)
	page.mustSee(".amount", "$49.00")
	page.mustFit()
	page.picture(w.name + "-pay")
	page.fill("4242424242424242")
	// With script the digits are grouped; without it they stand as typed, which shows that script is really off.
	number, expiry := mustAsk(page, chromedp.Value(chromedp.CSS("#cardNumber"))), mustAsk(page, chromedp.Value(chromedp.CSS("#cardExpiry")))
	if grouped := number == "4242 4242 4242 4242" && expiry == "12 / 39"; grouped != w.script {
		t.Errorf("the fields show %q and %q", number, expiry)
	}
	page.submit()
	page.mustSee("#shop", "Thank you")
	if got := w.b.status(s); got != "complete" {
		t.Errorf("session is %q", got)
	}
}

func (w walk) decline(t *testing.T) {
	s := w.b.checkout(w.back...)
	page := w.open(t, s.URL)
	page.fill("4000000000000002")
	page.submit()
	page.mustSee("#alert", "Your card was declined.")
	page.mustFit()
	page.picture(w.name + "-decline")
	page.fill("4242")
	page.submit()
	page.mustSee("#cardNumber-error", "not complete")
	page.mustFit()
	page.picture(w.name + "-mistake")
	page.click("p.cancel a")
	page.mustSee("#shop", "Your basket")
	if got := w.b.status(s); got != "open" {
		t.Errorf("session is %q", got)
	}
}

func (w walk) secure(t *testing.T) {
	s := w.b.checkout(w.back...)
	page := w.open(t, s.URL)
	for _, last := range []struct{ button, selector, phrase string }{
		{"#test-source-fail-3ds", "#alert", "could not confirm that it is you"},
		{"#test-source-authorize-3ds", "#shop", "Thank you"},
	} {
		page.click(`a.testcard[data-number="4000002500003155"]`)
		page.run(chromedp.WaitReady(chromedp.CSS(`a.testcard[data-number="4000002500003155"][aria-current]`)))
		page.submit()
		page.mustSee(".bankbody dl", "$49.00")
		page.mustFit()
		page.picture(w.name + "-3ds")
		page.click(last.button)
		page.mustSee(last.selector, last.phrase)
	}
	if got := w.b.status(s); got != "complete" {
		t.Errorf("session is %q", got)
	}
	if got := w.b.taken(); got < 1 {
		t.Errorf("money was taken %d times", got)
	}
}

func (w walk) save(t *testing.T) {
	s := w.b.setup(w.back...)
	page := w.open(t, s.URL)
	page.mustSee("h1", "Save a card")
	page.mustFit()
	page.picture(w.name + "-setup")
	page.fill("5555555555554444")
	page.submit()
	page.mustSee("#shop", "Thank you")
	if got := w.b.status(s); got != "complete" {
		t.Errorf("session is %q", got)
	}
	page.run(chromedp.Navigate(s.URL))
	page.mustSee("h1", "Your card is saved")
	page.mustFit()
	page.picture(w.name + "-done")
}

func (w walk) others(t *testing.T) {
	long := append([]string{
		"line_items[0][price_data][currency]", "bhd", "line_items[0][price_data][unit_amount]", "99999990",
		"line_items[0][price_data][product_data][name]", strings.Repeat("Donaudampfschifffahrt", 8),
	}, w.back...)
	s := w.b.checkout(long...)
	page := w.open(t, s.URL)
	page.mustSee(".amount", "BHD")
	page.mustFit()
	page.picture(w.name + "-long")
	page.run(chromedp.Navigate(w.b.base + "/"))
	page.mustSee("h1", "PayKit sandbox")
	page.mustFit()
	page.picture(w.name + "-landing")
	page.run(chromedp.Navigate(w.b.base + "/c/pay/cs_test_unknown"))
	page.mustSee("h1", "does not exist")
	page.mustFit()
	page.picture(w.name + "-unknown")
}
