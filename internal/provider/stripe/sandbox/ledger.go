package sandbox

// ledgerPayment is one payment as the sandbox knows it, whatever anybody was told.
type ledgerPayment struct {
	ID             string            `json:"id"`
	Amount         int64             `json:"amount"`
	Currency       string            `json:"currency"`
	Status         string            `json:"status"`
	Captures       int               `json:"captures"` // how often money was taken: 0 or 1
	AmountRefunded int64             `json:"amountRefunded"`
	Customer       nullable          `json:"customer"`
	PaymentMethod  nullable          `json:"paymentMethod"`
	Metadata       map[string]string `json:"metadata"`
}

// ledger lists every payment, oldest first. It is the oracle of tests: what was really charged.
func (s *Server) ledger() []ledgerPayment {
	s.enter()
	defer s.leave()
	s.tick()
	out := make([]ledgerPayment, 0, len(s.payments.order))
	refunded := map[string]int64{}
	for _, r := range s.refunds.all {
		if r.Status != refundFailed && r.Status != intentCanceled {
			refunded[string(r.PaymentIntent)] += r.Amount
		}
	}
	for _, id := range s.payments.order {
		pi := s.payments.peek(id)
		out = append(out, ledgerPayment{
			ID: pi.ID, Amount: pi.Amount, Currency: pi.Currency, Status: pi.Status, Captures: pi.captures, AmountRefunded: refunded[pi.ID],
			Customer: pi.Customer, PaymentMethod: pi.PaymentMethod, Metadata: metadataPatch{}.apply(pi.Metadata),
		})
	}
	return out
}
