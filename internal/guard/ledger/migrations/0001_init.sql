-- +goose Up
create table ledger_entry (
    org      text   not null,
    id       text   not null primary key,
    kind     text   not null, -- entry | hashedrekord
    actor    text   not null,
    action   text   not null,
    subject  text   not null,
    leaf     text   not null, -- the bytes that were hashed: canonical JSON
    at       bigint not null, -- unix microseconds
    position bigint unique    -- from 0, given by the sequencer after commit
);
create index ledger_entry_unsequenced on ledger_entry (id) where position is null;
create index ledger_entry_subject on ledger_entry (subject, position);
create index ledger_entry_actor on ledger_entry (actor, position);

-- The hashes of the tree, in the order of golang.org/x/mod/sumdb/tlog.
create table ledger_hash (
    org  text   not null,
    idx  bigint not null primary key,
    hash text   not null
);

create table ledger_checkpoint (
    org    text   not null,
    size   bigint not null primary key,
    note   text   not null, -- a signed note: origin, size, root
    key_id text   not null,
    at     bigint not null
);

-- Which log this database belongs to, so that another key cannot sign on.
create table ledger_identity (
    org        text not null primary key,
    origin     text not null,
    public_key text not null
);
