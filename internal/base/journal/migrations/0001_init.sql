-- +goose Up
create table fact (
    org      text    not null,
    id       text    not null primary key,
    type     text    not null,
    version  integer not null,
    subject  text    not null,
    body     text    not null, -- JSON
    at       bigint  not null, -- unix microseconds
    position bigint  unique    -- given by the sequencer after commit
);
create index fact_unsequenced on fact (id) where position is null;
create index fact_subject on fact (subject);

create table journal_cursor (
    org      text   not null,
    name     text   not null primary key,
    position bigint not null
);
