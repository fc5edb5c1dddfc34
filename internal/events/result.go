package events

import "time"

// CustomerResult is a customer as commands and queries answer it: the snapshot with the profile beside it. Every key is
// always there; what is unset is null, or {} and [].
type CustomerResult struct {
	ID               string               `json:"id"`
	ReferenceID      string               `json:"referenceId"`
	Email            *string              `json:"email"`
	Name             *string              `json:"name"`
	Metadata         map[string]string    `json:"metadata"`
	ProviderAccounts []ProviderAccountRef `json:"providerAccounts"` // linked ones only
	CreatedAt        time.Time            `json:"createdAt"`
	UpdatedAt        time.Time            `json:"updatedAt"`
	DeletedAt        *time.Time           `json:"deletedAt"`
}

// ProviderAccountRef names a customer's account at a provider.
type ProviderAccountRef struct {
	ID                 string `json:"id"`
	ProviderID         string `json:"providerId"`
	ProviderCustomerID string `json:"providerCustomerId"`
}
