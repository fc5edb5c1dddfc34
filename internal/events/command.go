package events

// Command is the snapshot of a queued command that was refused. Refusals over the api are answered and leave no trace.
type Command struct {
	Base
	Type  string `json:"type"` // the verb, "charge.create"
	Error Error  `json:"error"`
}

// RejectCommand says that a queued command was refused. Its message never repeats what the command held.
type RejectCommand struct {
	ID    string
	Type  string
	Error Error
}

// DecideCommand answers command.rejected once, and nil after that.
func DecideCommand(last *Event, in RejectCommand, c Cause) (*Event, error) {
	if last != nil {
		return nil, nil
	}
	now := c.at(nil)
	s := Command{
		Base: Base{ID: in.ID, CustomerID: c.Customer.ID, CreatedAt: now, UpdatedAt: now},
		Type: in.Type, Error: in.Error,
	}
	return next(nil, CommandRejected, in.ID, c, Data{Command: &s}), nil
}
