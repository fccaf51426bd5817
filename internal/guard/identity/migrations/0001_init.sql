-- +goose Up
create table account (
    org      text    not null,
    id       text    not null primary key,
    name     text    not null,
    email    text    not null, -- as commits name it
    kind     text    not null, -- user | host
    roles    text    not null, -- separated by commas
    teams    text    not null, -- separated by commas
    disabled integer not null,
    at       bigint  not null,
    unique (org, name)
);
create table token (
    org        text   not null,
    id         text   not null primary key,
    account_id text   not null references account (id),
    kind       text   not null, -- api | session | link
    name       text   not null,
    hash       text   not null unique, -- sha256 of the token; the token itself is nowhere
    expires    bigint not null,
    last_used  bigint not null,
    at         bigint not null
);
create index token_account on token (account_id);
