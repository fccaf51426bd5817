package identity

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"

	"weir/internal/base/db"
	"weir/internal/base/fault"
	"weir/internal/base/id"
)

//go:embed migrations
var migrations embed.FS

const org = "default"

// MaxTokenLife is the longest that an API token lives.
const MaxTokenLife = 366 * 24 * time.Hour

// sessionLife is how long a browser stays signed in; linkLife how long a
// sign-in link may wait to be used.
const (
	sessionLife = 12 * time.Hour
	linkLife    = 30 * time.Minute
)

// Account is a person or a host, as an admin sees them.
type Account struct {
	ID       string    `json:"id"`
	Name     string    `json:"name"`
	Email    string    `json:"email"`
	Kind     string    `json:"kind"`
	Roles    []string  `json:"roles"`
	Teams    []string  `json:"teams"`
	Disabled bool      `json:"disabled"`
	Created  time.Time `json:"created"`
}

// Actor is the account acting.
func (a Account) Actor() Actor { return Actor{ID: a.ID, Name: a.Name, Kind: a.Kind, Roles: a.Roles} }

// Record writes down, in the same transaction, what was done. The ledger is
// above this package, so app fills it in.
type Record func(ctx context.Context, tx *db.Tx, action, subject string, data any) error

// Accounts keeps people, their roles and their tokens.
type Accounts struct {
	db     *db.DB
	record Record
	now    func() time.Time
}

// Open brings the tables up to date.
func Open(ctx context.Context, d *db.DB, record Record, now func() time.Time) (*Accounts, error) {
	if err := db.Migrate(ctx, d, "identity", migrations); err != nil {
		return nil, err
	}
	return &Accounts{d, record, now}, nil
}

var accountName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,38}$`)

// Create adds an account. Nobody registers by themselves.
func (s *Accounts) Create(ctx context.Context, a Account) (Account, error) {
	if err := Check(ctx, "user.create", org); err != nil {
		return Account{}, err
	}
	if !accountName.MatchString(a.Name) {
		return Account{}, fault.New(fault.Invalid, "%q is not a user name. Use lower-case letters, digits, dots, hyphens and underscores, at most 39.", a.Name)
	}
	if a.Kind == "" {
		a.Kind = User
	}
	for _, r := range a.Roles {
		if !slices.Contains(Roles, r) {
			return Account{}, fault.New(fault.Invalid, "%q is not a role. The roles are %s.", r, strings.Join(Roles, ", "))
		}
	}
	for _, t := range a.Teams {
		if !accountName.MatchString(t) {
			return Account{}, fault.New(fault.Invalid, "%q is not a team name. Use lower-case letters, digits, dots, hyphens and underscores.", t)
		}
	}
	if a.Email == "" {
		a.Email = a.Name + "@users.invalid"
	}
	a.ID, a.Created = id.New("user"), s.now().UTC()
	err := s.db.Write(ctx, func(tx *db.Tx) error {
		res, err := tx.Exec(ctx, `insert into account (org, id, name, email, kind, roles, teams, disabled, at) values (?, ?, ?, ?, ?, ?, ?, 0, ?)
			on conflict (org, name) do nothing`, org, a.ID, a.Name, a.Email, a.Kind, strings.Join(a.Roles, ","), strings.Join(a.Teams, ","), a.Created.UnixMicro())
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return errors.Join(err, fault.New(fault.Conflict, "There is a user %s already.", a.Name))
		}
		return s.record(ctx, tx, "user.created", a.ID, map[string]any{"name": a.Name, "kind": a.Kind, "roles": a.Roles, "teams": a.Teams})
	})
	return a, err
}

// SetRoles replaces the roles of an account.
func (s *Accounts) SetRoles(ctx context.Context, name string, roles, teams []string) error {
	if err := Check(ctx, "user.roles", org); err != nil {
		return err
	}
	for _, r := range roles {
		if !slices.Contains(Roles, r) {
			return fault.New(fault.Invalid, "%q is not a role. The roles are %s.", r, strings.Join(Roles, ", "))
		}
	}
	a, err := s.Find(ctx, name)
	if err != nil {
		return err
	}
	return s.db.Write(ctx, func(tx *db.Tx) error {
		if _, err := tx.Exec(ctx, "update account set roles = ?, teams = ? where id = ?", strings.Join(roles, ","), strings.Join(teams, ","), a.ID); err != nil {
			return err
		}
		return s.record(ctx, tx, "user.roles_set", a.ID, map[string]any{"name": a.Name, "roles": roles, "teams": teams})
	})
}

const accountColumns = "a.id, a.name, a.email, a.kind, a.roles, a.teams, a.disabled, a.at"

func scanAccount(r interface{ Scan(...any) error }, more ...any) (Account, error) {
	var (
		a            Account
		roles, teams string
		disabled     int
		at           int64
	)
	err := r.Scan(append([]any{&a.ID, &a.Name, &a.Email, &a.Kind, &roles, &teams, &disabled, &at}, more...)...)
	a.Roles, a.Teams, a.Disabled, a.Created = split(roles), split(teams), disabled != 0, db.Time(at)
	return a, err
}

func split(s string) []string {
	if s == "" {
		return []string{}
	}
	return strings.Split(s, ",")
}

// Find returns an account by id, name or email.
func (s *Accounts) Find(ctx context.Context, name string) (Account, error) {
	a, err := scanAccount(s.db.QueryRow(ctx, "select "+accountColumns+" from account a where a.org = ? and (a.id = ? or a.name = ? or a.email = ?) order by a.at limit 1", org, name, name, name))
	if errors.Is(err, sql.ErrNoRows) {
		return Account{}, fault.New(fault.NotFound, "There is no user %s.", name)
	}
	return a, err
}

// List returns all accounts by name.
func (s *Accounts) List(ctx context.Context) ([]Account, error) {
	if err := Check(ctx, "user.read", org); err != nil {
		return nil, err
	}
	return s.all(ctx)
}

func (s *Accounts) all(ctx context.Context) ([]Account, error) {
	rows, err := s.db.Query(ctx, "select "+accountColumns+" from account a where a.org = ? order by a.name", org)
	return db.Collect(rows, err, func(r *sql.Rows) (Account, error) { return scanAccount(r) })
}

// Bootstrap makes the first admin if there is no account yet, and returns a
// one-time sign-in token for it. Later calls return "".
func (s *Accounts) Bootstrap(ctx context.Context) (link string, err error) {
	accounts, err := s.all(ctx)
	if err != nil {
		return "", err
	}
	accounts = slices.DeleteFunc(accounts, func(a Account) bool { return a.Kind != User }) // a host's account signs nobody in
	system := With(ctx, System("setup"))
	switch {
	case len(accounts) == 0:
		if _, err := s.Create(system, Account{Name: "admin", Roles: []string{Admin}}); err != nil {
			return "", err
		}
	case len(accounts) > 1 || accounts[0].Name != "admin" || s.everSignedIn(ctx, accounts[0].ID):
		return "", nil
	}
	return s.Link(system, "admin")
}

func (s *Accounts) everSignedIn(ctx context.Context, accountID string) bool {
	var n int
	err := s.db.QueryRow(ctx, "select count(*) from token where account_id = ? and (kind <> 'link' or last_used > 0)", accountID).Scan(&n)
	return err != nil || n > 0
}

// Link makes a one-time sign-in token for an account.
func (s *Accounts) Link(ctx context.Context, name string) (string, error) {
	if err := Check(ctx, "user.create", org); err != nil {
		return "", err
	}
	a, err := s.Find(ctx, name)
	if err != nil {
		return "", err
	}
	return s.issue(ctx, a, "link", "sign-in link", linkLife)
}

// Token makes an API token. The owner makes their own, an admin anybody's.
func (s *Accounts) Token(ctx context.Context, account, name string, life time.Duration) (string, error) {
	a, err := s.Find(ctx, account)
	if err != nil {
		return "", err
	}
	if err := CheckOwn(ctx, "token.create", org, a.ID); err != nil {
		return "", err
	}
	if life <= 0 || life > MaxTokenLife {
		return "", fault.New(fault.Invalid, "A token must expire, in at most 366 days.")
	}
	return s.issue(ctx, a, "api", name, life)
}

func (s *Accounts) issue(ctx context.Context, a Account, kind, name string, life time.Duration) (string, error) {
	token, now := newToken(), s.now()
	err := s.db.Write(ctx, func(tx *db.Tx) error {
		tokenID := id.New("token")
		if _, err := tx.Exec(ctx, "insert into token (org, id, account_id, kind, name, hash, expires, last_used, at) values (?, ?, ?, ?, ?, ?, ?, 0, ?)",
			org, tokenID, a.ID, kind, name, hashOf(token), now.Add(life).UnixMicro(), now.UnixMicro()); err != nil {
			return err
		}
		return s.record(ctx, tx, "token.created", tokenID, map[string]any{"account": a.Name, "kind": kind, "name": name, "expires": now.Add(life).UTC().Format(time.RFC3339)})
	})
	return token, err
}

// SignIn trades a one-time link for a session token. A link works once.
func (s *Accounts) SignIn(ctx context.Context, link string) (session string, _ Account, _ error) {
	a, err := s.use(ctx, link, "link")
	if err != nil {
		return "", Account{}, err
	}
	session, err = s.issue(With(ctx, a.Actor()), a, "session", "browser", sessionLife)
	return session, a, err
}

// SignOut ends a session.
func (s *Accounts) SignOut(ctx context.Context, session string) error {
	return s.db.Write(ctx, func(tx *db.Tx) error {
		_, err := tx.Exec(ctx, "update token set expires = 0 where hash = ? and kind = 'session'", hashOf(session))
		return err
	})
}

// Authenticate returns who holds an API token or a session.
func (s *Accounts) Authenticate(ctx context.Context, token string) (Actor, error) {
	a, err := s.use(ctx, token, "")
	if err != nil {
		return Anonymous, err
	}
	return a.Actor(), nil
}

// use finds a live token; a link is spent by it.
func (s *Accounts) use(ctx context.Context, token, kind string) (Account, error) {
	if !WellFormed(token) {
		return Account{}, fault.New(fault.Denied, "That is not a Weir token: it should start with weir_ and be 44 characters long. Copy it whole.")
	}
	hash, now := hashOf(token), s.now()
	var (
		found             string
		expires, lastUsed int64
		tokenID           string
	)
	a, err := scanAccount(s.db.QueryRow(ctx, "select "+accountColumns+", t.id, t.kind, t.expires, t.last_used from token t join account a on a.id = t.account_id where t.hash = ?", hash),
		&tokenID, &found, &expires, &lastUsed)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return Account{}, fault.New(fault.Denied, "This token is not known here. Make a new one with `weir token create`.")
	case err != nil:
		return Account{}, err
	case a.Disabled:
		return Account{}, fault.New(fault.Denied, "The account %s is disabled.", a.Name)
	case expires <= now.UnixMicro():
		return Account{}, fault.New(fault.Denied, "This token expired on %s. Make a new one with `weir token create`.", db.Time(expires).Format("2 January 2006 15:04 UTC"))
	case (found == "link") != (kind == "link"):
		return Account{}, fault.New(fault.Denied, "This token is of another kind: a sign-in link signs in a browser, once; everything else needs a token made with `weir token create`.")
	}
	if kind != "link" {
		if now.UnixMicro()-lastUsed > time.Minute.Microseconds() {
			// Last use is kept to the minute, so that reading does not write each time.
			_ = s.db.Write(ctx, func(tx *db.Tx) error {
				_, err := tx.Exec(ctx, "update token set last_used = ? where id = ?", now.UnixMicro(), tokenID)
				return err
			})
		}
		return a, nil
	}
	err = s.db.Write(ctx, func(tx *db.Tx) error {
		res, err := tx.Exec(ctx, "update token set expires = 0, last_used = ? where id = ? and expires > ?", now.UnixMicro(), tokenID, now.UnixMicro())
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n != 1 {
			return errors.Join(err, fault.New(fault.Denied, "This sign-in link was used already. Ask an admin for a new one."))
		}
		return s.record(With(ctx, a.Actor()), tx, "user.signed_in", a.ID, nil)
	})
	return a, err
}

// Approvers returns the names of those who may approve: accounts with the role
// approver that are in the team, or all of them if team is "".
func (s *Accounts) Approvers(ctx context.Context, team string) ([]string, error) {
	accounts, err := s.all(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, a := range accounts {
		if !a.Disabled && a.Kind == User && slices.Contains(a.Roles, Approver) && (team == "" || slices.Contains(a.Teams, team)) {
			names = append(names, a.Name)
		}
	}
	return names, nil
}

// Team returns the names of the live accounts in a team.
func (s *Accounts) Team(ctx context.Context, team string) ([]string, error) {
	accounts, err := s.all(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, a := range accounts {
		if !a.Disabled && slices.Contains(a.Teams, team) {
			names = append(names, a.Name)
		}
	}
	return names, nil
}
