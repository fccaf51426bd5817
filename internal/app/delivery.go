package app

import "context"

// delivery is the deploy and control layers of a system.
type delivery struct{}

func (s *System) openDelivery(context.Context) error { return nil }
