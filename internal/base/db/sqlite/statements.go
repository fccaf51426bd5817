package sqlite

import (
	"container/list"
	"context"
	"database/sql/driver"

	"modernc.org/sqlite"
)

// prepared is how many statements a connection keeps prepared. The whole system
// has a few hundred different queries; a connection sees a part of them.
const prepared = 256

// connector opens connections that keep their statements prepared: compiling
// SQL anew each time took a sixth of a busy server's time.
//
// On the writer's connection a statement runs to its end whatever becomes of
// its caller: SQLite answers an interrupted write by rolling back the whole
// transaction, which here holds other callers' writes as well.
type connector struct {
	driver.Connector
	uninterrupted bool
}

func connect(dsn string, uninterrupted bool) (driver.Connector, error) {
	c, err := sqlite.NewConnector(dsn)
	return connector{c, uninterrupted}, err
}

// Connect implements driver.Connector.
func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	raw, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &conn{raw.(inner), c.uninterrupted, map[string]*list.Element{}, list.New()}, nil
}

// inner is what modernc.org/sqlite's connections can do.
type inner interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.SessionResetter
	driver.Validator
	driver.Pinger
}

// conn is a connection with its prepared statements. database/sql uses it from
// one goroutine at a time.
type conn struct {
	inner
	uninterrupted bool
	byQuery       map[string]*list.Element
	idle          *list.List // of *statement, the least recently used first
}

type statement struct {
	query string
	inner interface {
		driver.Stmt
		driver.StmtExecContext
		driver.StmtQueryContext
	}
}

func (c *conn) context(ctx context.Context) context.Context {
	if c.uninterrupted {
		return context.WithoutCancel(ctx)
	}
	return ctx
}

// take gives a statement to its only user, who gives it back. The same query
// inside an open result of itself is prepared a second time.
func (c *conn) take(ctx context.Context, query string) (*statement, error) {
	if e, found := c.byQuery[query]; found {
		delete(c.byQuery, query)
		return c.idle.Remove(e).(*statement), nil
	}
	s := &statement{query: query}
	raw, err := c.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	s.inner = raw.(interface {
		driver.Stmt
		driver.StmtExecContext
		driver.StmtQueryContext
	})
	return s, nil
}

func (c *conn) give(s *statement) error {
	if _, twice := c.byQuery[s.query]; twice {
		return s.inner.Close()
	}
	c.byQuery[s.query] = c.idle.PushBack(s)
	if c.idle.Len() <= prepared {
		return nil
	}
	oldest := c.idle.Remove(c.idle.Front()).(*statement)
	delete(c.byQuery, oldest.query)
	return oldest.inner.Close()
}

// ExecContext implements driver.ExecerContext.
func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	ctx = c.context(ctx)
	s, err := c.take(ctx, query)
	if err != nil {
		return nil, err
	}
	r, err := s.inner.ExecContext(ctx, args)
	if err != nil {
		_ = s.inner.Close()
		return nil, err
	}
	return r, c.give(s)
}

// QueryContext implements driver.QueryerContext.
func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	ctx = c.context(ctx)
	s, err := c.take(ctx, query)
	if err != nil {
		return nil, err
	}
	r, err := s.inner.QueryContext(ctx, args)
	if err != nil {
		_ = s.inner.Close()
		return nil, err
	}
	return &rows{r, c, s}, nil
}

// Close closes the statements, then the connection.
func (c *conn) Close() error {
	for e := c.idle.Front(); e != nil; e = e.Next() {
		_ = e.Value.(*statement).inner.Close()
	}
	c.idle.Init()
	clear(c.byQuery)
	return c.inner.Close()
}

// rows gives its statement back when it is closed.
type rows struct {
	driver.Rows
	c *conn
	s *statement
}

func (r *rows) Close() error {
	if r.s == nil {
		return nil
	}
	s := r.s
	r.s = nil
	if err := r.Rows.Close(); err != nil {
		_ = s.inner.Close()
		return err
	}
	return r.c.give(s)
}
