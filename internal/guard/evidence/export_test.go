package evidence

import (
	"context"
	"time"
)

// SignSkewed signs with a certificate and a timestamp of different times.
func (s *Service) SignSkewed(ctx context.Context, st Statement, certified, stamped time.Time) (Evidence, error) {
	st, err := st.normal(s.Issuer())
	if err != nil {
		return Evidence{}, err
	}
	payload, err := st.payload()
	if err != nil {
		return Evidence{}, err
	}
	a := s.keys.Current()
	sig, err := a.signAt(payload, st.Identity, certified, stamped)
	if err != nil {
		return Evidence{}, err
	}
	r, err := s.keep(ctx, a, st, sig)
	if err != nil {
		return Evidence{}, err
	}
	return s.finish(ctx, r)
}
