-- +goose Up

-- The keys after the first. Each is signed by the one before it, so that the database alone can bring nobody to trust one.
create table ledger_key (
    org        text   not null,
    number     bigint not null primary key, -- from 2
    public_key text   not null,
    start      bigint not null,             -- how many entries the log had when the key took over
    created    bigint not null,
    reason     text   not null,
    handover   text   not null              -- signature of the key before it
);
