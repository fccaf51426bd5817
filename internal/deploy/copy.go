package deploy

import (
	"context"
	"fmt"
	"strings"
	"time"

	"weir/internal/base/fault"
)

// Copy is the way of a release to the registry of an environment. It is asked for once policy has let the release in, and its rollout begins
// only after the copy was read back whole.
type Copy struct {
	To       string    `json:"to"` // repository in another registry
	Verified time.Time `json:"verified,omitzero"`
	Attempts int       `json:"attempts"`
	Next     time.Time `json:"next,omitzero"` // not to be tried before
	Failure  string    `json:"failure,omitempty"`
}

// copyFresh is how long a verified copy counts: a promotion that waited longer is verified again.
const copyFresh = time.Hour

// Wanted reports whether the release has to be copied now.
func (c *Copy) Wanted(now time.Time) bool {
	return c != nil && c.Verified.IsZero() && !now.Before(c.Next)
}

// asks is the copy that must be there before a rollout may begin, and whether it is.
func (c *Copy) asks(to string, now time.Time) (_ *Copy, there bool) {
	switch {
	case to == "":
		return nil, true
	case c == nil || c.To != to || !c.Verified.IsZero() && now.Sub(c.Verified) > copyFresh:
		return &Copy{To: to}, false
	}
	return c, !c.Verified.IsZero()
}

// tried is c after an attempt. Waiting grows from one second to five minutes.
func (c Copy) tried(problem string, now time.Time) *Copy {
	if c.Failure = problem; problem == "" {
		c.Verified, c.Attempts = now, 0
		return &c
	}
	c.Next = now.Add(min(time.Second<<min(c.Attempts, 10), 5*time.Minute))
	c.Attempts++
	return &c
}

func (c *Copy) block(environment string) Block {
	b := Block{Rule: "copy", Message: fmt.Sprintf("The release is being copied to %s, the registry of %s.", c.To, environment), Source: "weir.yaml", Who: []string{"time"}}
	if c.Failure != "" {
		b.Message, b.Who = strings.TrimSuffix(c.Failure, ".")+". It is tried again.", []string{"whoever runs " + c.To, "admin"}
	}
	return b
}

// Copied stores what came of bringing a waiting release to a registry. Nil is a copy that was read back whole.
func (s *Service) Copied(ctx context.Context, fence Fence, pid PromotionID, to string, problem error) error {
	sentence := ""
	if problem != nil {
		sentence = fmt.Sprintf("The release could not be copied to %s: see the server's log.", to)
		if fault.KindOf(problem) != "" {
			sentence = fault.Sentence(problem)
		}
	}
	now := s.clock()
	return s.store.Write(ctx, fence, func(tx Tx) error {
		p, err := tx.Promotion(ctx, pid)
		if err != nil || p.State != Waiting || p.Copy == nil || p.Copy.To != to {
			return err // it is no longer wanted there
		}
		p.Copy, p.Updated = p.Copy.tried(sentence, now), now
		p.Blocks = since(p.Blocks, []Block{p.Copy.block(p.Environment)}, now)
		return tx.PutPromotion(ctx, p)
	})
}
